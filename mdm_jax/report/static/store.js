// What the page knows: the index, which is there from the start, and blocks of maps, loaded when one of them is shown.
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

Mdm.coded = ({ names, codes }) => ({ names, codes: Mdm.integers(codes) });

/* Called by data/index.js. */
Mdm.receive = (plain) => {
  Mdm.ids = plain.ids;
  Mdm.block = plain.block;
  Mdm.notes = plain.notes;
  Mdm.labels = Mdm.coded(plain.labels);
  Mdm.image = Mdm.integers(plain.image);
  Mdm.rank = Mdm.integers(plain.rank);
  Mdm.count = Mdm.image.length;
  Mdm.severalRanks = Mdm.rank.some((rank) => rank > 0);
  Mdm.colours = Object.fromEntries(Object.entries(plain.colours).map(([name, text]) => [name, Mdm.bytes(text)]));
  Mdm.frames = plain.frames.map((frame, number) => ({ ...frame, number, there: Mdm.bytes(frame.there) }));
  Mdm.runs = plain.runs.map((run, number) => ({
    ...run,
    number,
    frame: Mdm.frames[run.frame],
    status: Mdm.coded(run.status),
    label: Mdm.integers(run.label),
    prediction: Mdm.integers(run.prediction),
    target: Mdm.integers(run.target),
    stride: run.sizes.reduce((sum, [h, w]) => sum + 8 + h * w, 0),
    numbers: run.numbers.map((each) => ({ ...each, values: Mdm.floats(each.data), data: null })),
  }));
  Mdm.first = [];
  for (let entry = 0; entry < Mdm.count; entry++) {
    const block = Math.floor(Mdm.image[entry] / Mdm.block);
    if (Mdm.first[block] === undefined) Mdm.first[block] = entry;
  }
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", Mdm.start) : Mdm.start();
};

Mdm.id = (entry) => Mdm.ids[Mdm.image[entry]];
Mdm.label = (entry) => Mdm.labels.names[Mdm.labels.codes[Mdm.image[entry]]];
Mdm.className = (run, number) => (number < 0 ? "" : run.classes[number] ?? String(number));
Mdm.status = (run, entry) => run.status.names[run.status.codes[entry]];
Mdm.number = (run, key) => run.numbers.find((each) => each.key === key);
Mdm.value = (run, key, entry) => Mdm.number(run, key)?.values[entry] ?? NaN;

/* true, false, or null where the true class is not known or nothing was predicted. */
Mdm.right = (run, entry) =>
  run.label[entry] < 0 || run.prediction[entry] < 0 ? null : run.label[entry] === run.prediction[entry];

Mdm.picture = (frame, image) => {
  const folder = String(Math.floor(image / 1000)).padStart(3, "0");
  return `images/f${frame.number}/${folder}/${String(image).padStart(6, "0")}.${frame.suffix}`;
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

/* The bytes of an entry's maps: null while they load (`then` is called when they are there), undefined where there are none. */
function part(kind, image, place, stride, then) {
  const number = Math.floor(image / Mdm.block);
  const block = load(kind, number);
  if (block.failed) return undefined;
  if (block.bytes === null) {
    if (then) block.ready.then(then);
    return null;
  }
  return block.bytes.subarray(place * stride, (place + 1) * stride);
}

Mdm.mapBytes = (run, entry, then) => {
  if (run.kind === "none") return undefined;
  const image = Mdm.image[entry];
  return part(`r${run.number}`, image, entry - Mdm.first[Math.floor(image / Mdm.block)], run.stride, then);
};

Mdm.besideBytes = (frame, image, then) =>
  frame.there[image] ? part(`f${frame.number}`, image, image % Mdm.block, frame.stride, then) : undefined;
