// From bytes to pixels: maps rendered from mask vectors as the package does, overlays, and the image seen through its mask.
"use strict";

/* The maps of an entry, [{h, w, cells}], cells in [0, 1]; null where it has none. */
Mdm.vectors = (run, bytes) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const maps = [];
  let at = 0;
  for (const [h, w] of run.sizes) {
    const low = view.getFloat32(at, true);
    const high = view.getFloat32(at + 4, true);
    if (!Number.isFinite(low)) return null;
    const cells = new Float32Array(h * w);
    for (let i = 0; i < cells.length; i++) cells[i] = low + ((high - low) * bytes[at + 8 + i]) / 255;
    maps.push({ h, w, cells });
    at += 8 + h * w;
  }
  return maps;
};

const axes = new Map();
/* For each pixel the two cells between which it lies and the share of the second: half-pixel centers, edges held. */
function axis(cells, pixels) {
  const key = `${cells}/${pixels}`;
  if (!axes.has(key)) {
    const table = { low: new Int32Array(pixels), high: new Int32Array(pixels), share: new Float32Array(pixels) };
    for (let p = 0; p < pixels; p++) {
      const center = Math.min(cells - 1, Math.max(0, ((p + 0.5) * cells) / pixels - 0.5));
      table.low[p] = Math.floor(center);
      table.high[p] = Math.min(cells - 1, table.low[p] + 1);
      table.share[p] = center - table.low[p];
    }
    axes.set(key, table);
  }
  return axes.get(key);
}

/* Add `weight` times the bilinear rendering of a map to `out` [height, width]. */
function render({ h, w, cells }, out, height, width, weight) {
  const rows = axis(h, height);
  const columns = axis(w, width);
  const line = new Float32Array(w);
  for (let y = 0, at = 0; y < height; y++) {
    const top = rows.low[y] * w;
    const bottom = rows.high[y] * w;
    const share = rows.share[y];
    for (let x = 0; x < w; x++) line[x] = weight * (cells[top + x] + share * (cells[bottom + x] - cells[top + x]));
    for (let x = 0; x < width; x++, at++) {
      const left = line[columns.low[x]];
      out[at] += left + columns.share[x] * (line[columns.high[x]] - left);
    }
  }
}

const stacks = new Map();
/* The stacked mask of an entry and its saliency (the mask stretched to [0, 1]); null while it loads, undefined if none. */
Mdm.stack = (run, entry, height, width, then) => {
  const key = `${run.number}/${entry}/${height}/${width}`;
  const known = stacks.get(key);
  if (known) return known;
  const bytes = Mdm.mapBytes(run, entry, then);
  if (!bytes) return bytes;
  const maps = Mdm.vectors(run, bytes);
  if (!maps) return undefined;
  const mask = new Float32Array(height * width);
  const weights = run.weights ?? maps.map(() => 1);
  const sum = weights.reduce((a, b) => a + b, 0);
  maps.forEach((map, k) => render(map, mask, height, width, weights[k] / sum));
  let low = Infinity;
  let high = -Infinity;
  for (const value of mask) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const flat = high - low <= 1e-6 * Math.max(Math.abs(low), Math.abs(high));
  const saliency = flat ? new Float32Array(mask.length) : mask.map((value) => (value - low) / (high - low));
  const stack = { mask, saliency, maps, height, width };
  stacks.set(key, stack);
  if (stacks.size > 240) stacks.delete(stacks.keys().next().value);
  return stack;
};

/* Cells of an overlay in a small picture: twice the finest mask's, which is all that interpolation leaves to see. */
Mdm.resolution = (run) => {
  const [height, width] = run.frame.size;
  const finest = Math.max(16, ...run.sizes.map(([h, w]) => Math.max(h, w)));
  const scale = Math.min(1, (2 * finest) / Math.max(height, width));
  return [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
};

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function paint(canvas, width, height, pixel) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) pixel(image.data, 4 * i, i);
  context.putImageData(image, 0, 0);
}

/* Heat over the picture, as plots.overlay: its weight is the root of the saliency; below the threshold there is none. */
Mdm.paintHeat = (canvas, { saliency, height, width }, threshold, colors) =>
  paint(canvas, width, height, (data, at, i) => {
    const value = saliency[i];
    const c = 3 * Math.round(255 * value);
    data[at] = colors[c];
    data[at + 1] = colors[c + 1];
    data[at + 2] = colors[c + 2];
    data[at + 3] = value < threshold ? 0 : 255 * Math.sqrt(value);
  });

/* The colors from 0 to 1, a pixel high; none below the threshold. */
Mdm.paintBar = (canvas, colors, threshold) =>
  paint(canvas, canvas.width, 1, (data, at, i) => {
    const value = i / (canvas.width - 1);
    const c = 3 * Math.round(255 * value);
    for (let k = 0; k < 3; k++) data[at + k] = colors[c + k];
    data[at + 3] = value < threshold ? 0 : 255;
  });

/* One mask on its own, 0 to 1 in the colors of the map. */
Mdm.paintMap = (canvas, map, height, width, colors) => {
  const values = new Float32Array(height * width);
  render(map, values, height, width, 1);
  paint(canvas, width, height, (data, at, i) => {
    const c = 3 * Math.round(255 * Math.min(1, Math.max(0, values[i])));
    data[at] = colors[c];
    data[at + 1] = colors[c + 1];
    data[at + 2] = colors[c + 2];
    data[at + 3] = 255;
  });
};

/* mask * picture + (1 - mask) * fill. The canvas is only drawn to, never read, as pages from files may not read pictures. */
Mdm.paintMasked = (canvas, picture, { mask, saliency, height, width }, threshold, fill, pixels) => {
  const shape = canvasOf(width, height);
  paint(shape, width, height, (data, at, i) => {
    data[at + 3] = saliency[i] < threshold ? 0 : Math.round(255 * Math.min(1, Math.max(0, mask[i])));
  });
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(shape, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-in";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "destination-over";
  if (typeof fill === "string") {
    context.fillStyle = fill;
    context.fillRect(0, 0, canvas.width, canvas.height);
  } else context.drawImage(fill, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
};

/* The fill of an image by its name: a color, or a small blurred picture; null while it loads. */
Mdm.fill = (run, image, name, then) => {
  const plain = { black: "#000", white: "#fff", gray: "#808080" }[name];
  if (plain || name.startsWith("rgb")) return plain ?? name;
  const frame = run.frame;
  const bytes = Mdm.besideBytes(frame, image, then);
  if (!bytes) return bytes === null ? null : "#808080";
  if (name !== "blur") return `rgb(${bytes[0]} ${bytes[1]} ${bytes[2]})`;
  const [h, w] = frame.fill;
  const canvas = canvasOf(w, h);
  paint(canvas, w, h, (data, at, i) => {
    for (let c = 0; c < 3; c++) data[at + c] = bytes[4 + 3 * i + c];
    data[at + 3] = 255;
  });
  return canvas;
};

/* A color given as a number or three in [0, 1]; undefined for anything else. */
function colorOf(value) {
  const parts = [value].flat();
  if (![1, 3].includes(parts.length) || !parts.every((part) => typeof part === "number")) return undefined;
  return `rgb(${(parts.length === 1 ? [...parts, ...parts, ...parts] : parts).map((part) => Math.round(255 * part)).join(" ")})`;
}

/* Which fill is drawn for a run, and what is said of it. */
Mdm.fillOf = (run) => {
  const asked = Mdm.state.fill;
  const drawable = ["blur", "mean", "black", "gray"].includes(run.fill) ? run.fill : colorOf(run.fill);
  const name = asked !== "run" ? asked : drawable ?? (run.fill === null ? "blur" : "mean");
  const what = name === "blur" ? `blur (σ ${run.frame.sigma} px of the input)` : name === "mean" ? "mean color" : name;
  const note = name === drawable ? "the fill of the run" : run.fill === null ? "chosen here" : drawable ? `where the run used ${drawable}` : "where the run used a fill of its own";
  const cut = Mdm.state.threshold ? `; what lies below the threshold of ${Mdm.state.threshold} % is left out too` : "";
  const how = name === drawable && !cut ? "from 8-bit data: close to what the network saw, not equal to it" : "which is not what the network saw";
  return { name, text: `Masked-out parts show ${what}, ${note}${cut}. Drawn in the browser, ${how}.` };
};

/* The outline of the object: lines between cells inside and outside. */
Mdm.paintTruth = (canvas, frame, bytes, pixels) => {
  const [h, w] = frame.truth;
  const start = 4 + 3 * frame.fill[0] * frame.fill[1];
  const bit = (at) => (bytes[start + (at >> 3)] >> (7 - (at & 7))) & 1;
  const inside = (y, x) => (y >= 0 && x >= 0 && y < h && x < w ? bit(y * w + x) : 0);
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  const context = canvas.getContext("2d");
  const sy = canvas.height / h;
  const sx = canvas.width / w;
  context.beginPath();
  for (let y = 0; y <= h; y++) {
    for (let x = 0; x <= w; x++) {
      if (inside(y, x) !== inside(y - 1, x)) { context.moveTo(x * sx, y * sy); context.lineTo((x + 1) * sx, y * sy); }
      if (inside(y, x) !== inside(y, x - 1)) { context.moveTo(x * sx, y * sy); context.lineTo(x * sx, (y + 1) * sy); }
    }
  }
  context.lineCap = "square";
  const thick = Math.max(1.5, canvas.width / 130);
  for (const [color, width] of [["rgb(0 0 0 / 0.55)", 2 * thick], ["#35e0ff", thick]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  }
};
