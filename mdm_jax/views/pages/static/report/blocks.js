// Elements, and bytes that lie beside the page in blocks, loaded when one of them is shown. Both pages of the package use it.
"use strict";

const Mdm = {};

Mdm.bytes = (text) => {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
};

Mdm.floats = (text) => new Float32Array(Mdm.bytes(text).buffer);
Mdm.integers = (text) => new Int32Array(Mdm.bytes(text).buffer);

/* An element with attributes, properties (`on...`) and children; text stays text, whatever it holds. */
Mdm.make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

/* Blocks: the least recently used are dropped, so that a long scroll does not fill the memory. */
const ROOM = 48 * 1024 * 1024;
const blocks = new Map();
let held = 0;

Mdm.take = (kind, number, text) => {
  const block = blocks.get(`${kind}/${number}`);
  if (!block) return;
  block.bytes = Mdm.bytes(text);
  held += block.bytes.length;
};

function load(kind, number) {
  const key = `${kind}/${number}`;
  const known = blocks.get(key);
  if (known) {
    blocks.delete(key);
    blocks.set(key, known);
    return known;
  }
  const block = { bytes: null, failed: false, ready: null };
  blocks.set(key, block);
  block.ready = new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = `data/${kind}/${String(number).padStart(5, "0")}.js`;
    script.onload = script.onerror = () => {
      script.remove();
      block.failed = block.bytes === null;
      resolve(block);
    };
    document.head.append(script);
  });
  for (const [old, each] of blocks) {
    if (held <= ROOM || old === key) break;
    if (each.bytes === null) continue;
    held -= each.bytes.length;
    blocks.delete(old);
  }
  return block;
}

/* Bytes of a block: null while they load (`then` is called when they are there), undefined where there are none. */
Mdm.part = (kind, number, place, stride, then) => {
  const block = load(kind, number);
  if (block.failed) return undefined;
  if (block.bytes === null) {
    if (then) block.ready.then(then);
    return null;
  }
  return block.bytes.subarray(place * stride, (place + 1) * stride);
};
