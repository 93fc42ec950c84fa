// A picture with the region of one pair (image, prototype): outlined, as heat, or not at all.
"use strict";

/* The map of a pair, {h, w, cells} in [0, 1]; null while it loads, undefined where there is none. */
Mdm.map = (region, pair, then) => {
  const [h, w] = Mdm.cells;
  const stride = 8 + h * w;
  const bytes = Mdm.part(region.key, Math.floor(pair / Mdm.block), pair % Mdm.block, stride, then);
  if (!bytes) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, stride);
  const [low, high] = [view.getFloat32(0, true), view.getFloat32(4, true)];
  if (!Number.isFinite(low) || high <= low) return undefined;
  return { h, w, cells: bytes.subarray(8) };
};

/* A map blurred a little, so that its border can be followed by eye; one of two values, a box, stays as it is. */
Mdm.smooth = ({ h, w, cells }) => {
  if (new Set(cells).size < 3) return { h, w, cells };
  const sigma = Math.max(h, w) / 40;
  const reach = Math.ceil(3 * sigma);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-0.5 * ((k - reach) / sigma) ** 2));
  const sum = weights.reduce((a, b) => a + b, 0);
  const along = (from, count, step, lines, stride) => {
    const to = new Float32Array(h * w);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < count; i++) {
        let value = 0;
        for (let k = -reach; k <= reach; k++) value += weights[k + reach] * from[line * stride + Math.min(count - 1, Math.max(0, i + k)) * step];
        to[line * stride + i * step] = value / sum;
      }
    }
    return to;
  };
  return { h, w, cells: along(along(cells, w, 1, h, w), h, w, w, 1) };
};

/* The level above which at most `share` of the cells lie, or only the highest where more than that are equal. */
Mdm.level = ({ cells }, share) => {
  const sorted = Float32Array.from(cells).sort();
  const highest = sorted[sorted.length - 1];
  const level = sorted[Math.min(sorted.length - 1, Math.ceil((1 - share) * sorted.length))];
  if (level < highest && level > sorted[0]) return level;
  const others = sorted.filter((value) => (level < highest ? value > sorted[0] : value < highest));
  return level < highest ? (sorted[0] + others[0]) / 2 : (highest + others[others.length - 1]) / 2;
};

/* Borders of the cells above a level, as an SVG path in cells: marching squares, linear between the middles of the cells. */
Mdm.border = ({ h, w, cells }, level) => {
  const at = (y, x) => (y < 0 || x < 0 || y >= h || x >= w ? -1 : cells[y * w + x]);
  const near = new Map(); // from each end of a piece to those of the pieces that meet there
  const join = (a, b) => {
    for (const [from, to] of [[a, b], [b, a]]) {
      if (!near.has(from)) near.set(from, []);
      near.get(from).push(to);
    }
  };
  const cut = (ya, xa, yb, xb) => {
    const [a, b] = [at(ya, xa), at(yb, xb)];
    const outside = a < 0 || b < 0; // continued beyond the image, the border runs along its edge
    const share = outside ? 0.5 : (level - a) / (b - a);
    return `${(xa + 0.5 + share * (xb - xa)).toFixed(2)} ${(ya + 0.5 + share * (yb - ya)).toFixed(2)}`;
  };
  for (let y = -1; y < h; y++) {
    for (let x = -1; x < w; x++) {
      const corners = [[y, x], [y, x + 1], [y + 1, x + 1], [y + 1, x]];
      const inside = corners.map(([cy, cx]) => at(cy, cx) > level);
      const crossed = [];
      for (let k = 0; k < 4; k++) if (inside[k] !== inside[(k + 1) % 4]) crossed.push(cut(...corners[k], ...corners[(k + 1) % 4]));
      if (crossed.length === 2) join(crossed[0], crossed[1]);
      else if (crossed.length === 4) { join(crossed[0], inside[0] ? crossed[3] : crossed[1]); join(crossed[2], inside[0] ? crossed[1] : crossed[3]); }
    }
  }
  const paths = [];
  while (near.size) {
    const [start] = near.keys();
    const line = [start];
    for (let here = start; ;) {
      const next = near.get(here)?.pop();
      if (!near.get(here)?.length) near.delete(here);
      if (next === undefined) break;
      const back = near.get(next);
      if (back) { back.splice(back.indexOf(here), 1); if (!back.length) near.delete(next); }
      here = next;
      if (here === start) break;
      line.push(here);
    }
    paths.push(`M${line.join("L")}Z`);
  }
  return paths.join("");
};

const SVG = "http://www.w3.org/2000/svg";
const shape = (name, attributes, ...children) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

/* The border of each region, a veil over what lies outside, and boxes as they are published. */
function outlined(maps, share, veil, boxes) {
  const [h, w] = Mdm.cells;
  const parts = [];
  for (const { map, color } of maps) {
    const even = Mdm.smooth(map);
    const border = Mdm.border(even, Mdm.level(even, share));
    if (veil) parts.push(shape("path", { class: "veil", d: `M0 0H${w}V${h}H0Z${border}`, "fill-rule": "evenodd" }));
    parts.push(shape("path", { class: "edge", d: border }), shape("path", { class: "border", d: border, stroke: color }));
  }
  for (const box of boxes.filter(Boolean)) {
    const [x0, y0, x1, y1] = box.map((value, k) => (value * (k % 2 ? h : w)) / Mdm.size[k % 2 ? 0 : 1]);
    for (const kind of ["edge", "border"]) parts.push(shape("rect", { class: `${kind} box`, x: x0, y: y0, width: x1 - x0, height: y1 - y0, stroke: "#fff" }));
  }
  return shape("svg", { class: "layer", viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...parts);
}

/* Heat as in the overlays of the package: inferno, its weight the root of the value. */
function heated({ h, w, cells }) {
  const canvas = Mdm.make("canvas", { class: "layer", width: w, height: h, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Mdm.colors[3 * cells[i] + c];
    image.data[4 * i + 3] = 0.8 * 255 * Math.sqrt(cells[i] / 255);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/* Of many pictures, those are drawn that are to be seen, or soon will be. */
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const tile = tiles.get(entry.target);
    tile.near = entry.isIntersecting;
    if (tile.near) tile.draw();
  }
}, { rootMargin: "300px" });
const tiles = new WeakMap();

/* A picture that is drawn again whenever the view changes. `pairs` are [{pair, color}]: several are outlined together. */
Mdm.Tile = class {
  constructor(image, pairs, { region = null, alt = "", look = null, large = false, many = false } = {}) {
    Object.assign(this, { image, pairs, region, look, near: !many });
    const [height, width] = Mdm.size;
    this.element = Mdm.make("div", { class: "tile" });
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.parts = [];
    if (image === null || Mdm.images[image].missing) this.parts.push(note("No picture", image === null ? "" : Mdm.images[image].missing));
    else this.parts.push(Mdm.make("img", { src: Mdm.picture(image), alt, width, height, loading: large ? null : "lazy", decoding: "async", draggable: "false" }));
    this.again = () => { if (this.element.isConnected) this.draw(); };
    if (many) {
      tiles.set(this.element, this);
      near.observe(this.element);
    }
    this.element.replaceChildren(...this.parts);
    this.draw();
  }

  draw() {
    if (!this.near) return;
    const look = this.look ?? Mdm.state.look;
    const region = this.region ?? Mdm.region();
    const found = look === "image" || !region ? [] : this.pairs.map(({ pair, color }) => ({ color, map: Mdm.map(region, pair, this.again) }));
    const maps = found.filter(({ map }) => map);
    const parts = [...this.parts];
    this.element.dataset.look = look;
    this.element.classList.toggle("waiting", found.some(({ map }) => map === null));
    if (maps.length && look === "heat" && this.pairs.length === 1) parts.push(heated(maps[0].map));
    else if (maps.length) parts.push(outlined(maps, Mdm.state.share / 100, this.pairs.length === 1, this.pairs.length === 1 ? [region.boxes?.[this.pairs[0].pair]] : []));
    if (found.length === 1 && found[0].map === undefined) parts.push(Mdm.make("div", { class: "absent" }, "no region"));
    this.element.replaceChildren(...parts);
  }
};

function note(title, reason) {
  return Mdm.make("div", { class: "note", title: reason }, Mdm.make("strong", {}, title), Mdm.make("span", {}, reason));
}
