// A histogram of one number over the images that pass the filters, a series for each run.
"use strict";

const BINS = 28;

Mdm.shape = (name, attributes = {}, ...children) => {
  const element = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

Mdm.mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN);

/* Of sorted values; between the two in the middle where their count is even. */
Mdm.median = (sorted) => {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/* The finite values of a number in each run, sorted. */
Mdm.columns = ({ key, node }, runs, order) => runs.map((run) => {
  const values = Mdm.number(run, key, node)?.values;
  return values ? Float64Array.from(order, (e) => values[e]).filter(Number.isFinite).sort() : new Float64Array();
});

/* Runs whose values are the same, such as what one network says of the images, are drawn once. */
function series(runs, columns) {
  const found = [];
  runs.forEach((run, n) => {
    if (!columns[n].length) return;
    const same = found.find(({ column }) => column.length === columns[n].length && column.every((value, k) => value === columns[n][k]));
    if (same) same.runs.push(run);
    else found.push({ column: columns[n], runs: [run] });
  });
  return found;
}

/* Null where there are no two different values. Numbers that the table has are not told here again. */
Mdm.histogram = (of, runs, order) => {
  const { key, node, title, kind, better } = of;
  const drawn = series(runs, Mdm.columns(of, runs, order));
  const all = Float64Array.from(drawn.flatMap(({ column }) => [...column])).sort();
  if (all.length < 2 || all[0] === all.at(-1)) return null;
  // of a few extreme values the rest would be one bar: the ends are those of 99 % and take in what lies beyond
  const quantile = (q) => all[Math.min(all.length - 1, Math.floor(q * all.length))];
  let low = quantile(0.005);
  let high = quantile(0.995);
  if (kind === "share" && low >= 0 && high <= 1.05) [low, high] = [0, high > 0.6 ? Math.max(1, high) : Math.ceil(high * 20) / 20];
  if (high <= low) [low, high] = [all[0], all.at(-1)];
  const whole = kind === "count";
  const step = Math.ceil((high - low + 1) / BINS); // of whole numbers every bar takes as many
  const bins = whole ? Math.ceil((high - low + 1) / step) : BINS;
  const width = whole ? step : (high - low) / bins;
  const counts = drawn.map(({ column }) => {
    const bars = new Array(bins).fill(0);
    for (const value of column) bars[Math.max(0, Math.min(bins - 1, Math.floor((value - low) / width)))] += 1;
    return bars;
  });
  const top = Math.max(...counts.flat());
  const [W, H, foot] = [320, 120, 18];
  const x = (bin) => (bin / bins) * W;
  const y = (count) => H - (count / top) * (H - 8);
  const words = drawn.map((each) => `${each.runs.map(({ name }) => name).join(", ")}: ${told(each.column, kind)}`).join("; ");
  const picture = Mdm.shape("svg", { viewBox: `0 0 ${W} ${H + foot}`, role: "img", "aria-label": `Histogram of ${title}: ${words}` });
  counts.forEach((bars, n) => {
    const color = drawn[n].runs[0].number % 6;
    if (runs.length === 1) bars.forEach((count, bin) => count && picture.append(Mdm.shape("rect", { x: x(bin) + 0.6, y: y(count), width: W / bins - 1.2, height: H - y(count), rx: 1, class: `bar run-${color}` })));
    else {
      const line = bars.map((count, bin) => `L${x(bin).toFixed(1)} ${y(count).toFixed(1)}H${x(bin + 1).toFixed(1)}`).join("");
      picture.append(Mdm.shape("path", { d: `M0 ${H}${line}V${H}Z`, class: `area run-${color}` }));
    }
    const middle = Math.min(W, Math.max(0, ((Mdm.median(drawn[n].column) - low) / (width * bins)) * W));
    picture.append(Mdm.shape("line", { x1: middle, x2: middle, y1: 0, y2: H, class: `median run-${color}` }));
  });
  picture.append(Mdm.shape("line", { x1: 0, x2: W, y1: H + 0.5, y2: H + 0.5, class: "axis" }));
  for (const [value, anchor, at] of [[low, "start", 0], [low + (width * bins) / 2, "middle", W / 2], [low + width * bins - (whole ? 1 : 0), "end", W]]) {
    picture.append(Mdm.shape("text", { x: at, y: H + 14, "text-anchor": anchor }, Mdm.show(whole ? Math.round(value) : value, kind)));
  }
  const reference = Mdm.reference();
  if (!reference.other && runs.includes(reference.run) && Mdm.number(reference.run, key, node)) {
    for (let bin = 0; bin < bins; bin++) {
      const [from, to] = [bin === 0 ? null : tidy(low + bin * width), bin === bins - 1 ? null : tidy(low + (bin + 1) * width)];
      const tip = `${Mdm.show(from ?? low, kind)} to ${Mdm.show(to ?? high, kind)}: ${counts.map((bars) => bars[bin]).join(", ")}`;
      const hit = Mdm.shape("rect", { x: x(bin), y: 0, width: W / bins, height: H, class: "hit" }, Mdm.shape("title", {}, tip));
      hit.addEventListener("click", () => Mdm.change({ where: [...Mdm.state.where.filter((each) => each.key !== key), { key, low: from, high: to }] }));
      picture.append(hit);
    }
  }
  const lines = drawn.map((each) => ({ runs: each.runs, text: told(each.column, kind) }));
  const said = better ? [] : lines.map((line) => Mdm.make("p", {}, ...(runs.length > 1 ? line.runs.map(Mdm.dot) : []), line.text));
  const figure = Mdm.make("figure", { class: "plot" }, Mdm.make("figcaption", {}, title), picture, ...said);
  figure.lines = lines; // for whoever saves it
  return figure;
};

const tidy = (value) => Number(value.toPrecision(4));
const told = (column, kind) => `median ${Mdm.show(Mdm.median(column), kind)}, mean ${Mdm.show(Mdm.mean(column), kind)}, ${column.length.toLocaleString("en")} images`;
