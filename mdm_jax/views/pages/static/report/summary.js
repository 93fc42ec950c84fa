// Distributions over the images that pass the filters, and a table of classes.
"use strict";

const BINS = 28;
const FEW = 100;

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

Mdm.Summary = class {
  constructor(element) {
    this.element = element;
    this.by = "n";
    this.all = false;
  }

  show(order) {
    const runs = Mdm.shownRuns();
    const { run } = Mdm.reference();
    const kinds = new Map();
    for (const each of runs) for (const { key, title, kind } of each.numbers) kinds.set(key, { key, title, kind });
    const drawn = [];
    const constant = [];
    for (const kind of kinds.values()) {
      const figure = histogram(kind, runs, order);
      if (figure) drawn.push(figure);
      else constant.push(same(kind, runs, order));
    }
    this.element.replaceChildren(
      Mdm.make("div", { class: "plots" }, statuses(runs, order), ...drawn),
      Mdm.make("p", { class: "hint" }, [...constant.filter(Boolean), drawn.length ? "Click a bar of a histogram to filter by it; the outermost bars take in the few values beyond." : ""].filter(Boolean).join(" ")),
      this.classes(run, order),
    );
  }

  /* A row a class: how many, how often right, and means of what tells most; of the run that is filtered by. */
  classes(run, order) {
    const groups = new Map();
    for (const entry of order) {
      const label = Mdm.label(entry) || "(no class)";
      if (!groups.has(label)) groups.set(label, []);
      groups.get(label).push(entry);
    }
    const columns = run.numbers.filter(({ key }) => ["kept", "kept_area", "energy"].includes(key) || key.startsWith("metric:"));
    const rows = [...groups].map(([label, entries]) => {
      const judged = entries.map((e) => Mdm.right(run, e)).filter((right) => right !== null);
      const values = { n: entries.length, right: judged.length ? judged.filter(Boolean).length / judged.length : NaN };
      for (const { key, values: of } of columns) values[key] = mean(entries.map((e) => of[e]).filter((v) => !Number.isNaN(v)));
      return { label, values };
    });
    const heads = [{ key: "n", title: "images", kind: "count" }, { key: "right", title: "right", kind: "share" }, ...columns];
    rows.sort((a, b) => (this.by === "label" ? 0 : (b.values[this.by] ?? 0) - (a.values[this.by] ?? 0)) || collator.compare(a.label, b.label));
    const most = Object.fromEntries(heads.map(({ key }) => [key, Math.max(...rows.map(({ values }) => values[key]).filter(Number.isFinite), 1e-9)]));
    const shown = this.all ? rows : rows.slice(0, FEW);
    const sorter = (key, title) =>
      Mdm.make("th", { scope: "col", "aria-sort": this.by === key ? (key === "label" ? "ascending" : "descending") : null },
        Mdm.make("button", { type: "button", onclick: () => { this.by = key; this.show(order); } }, title));
    const body = shown.map(({ label, values }) =>
      Mdm.make("tr", {},
        Mdm.make("th", { scope: "row" }, Mdm.make("a", { href: Mdm.format({ ...Mdm.state, label: label === "(no class)" ? "" : label, page: "grid" }) }, label)),
        ...heads.map(({ key, kind }) => {
          const cell = Mdm.make("td", {}, Mdm.make("span", {}, Mdm.show(values[key], kind)));
          const full = kind === "share" ? Math.max(1, most[key]) : most[key];
          cell.style.setProperty("--share", `${Math.max(0, Math.min(1, values[key] / full || 0)) * 100}%`);
          return cell;
        })));
    const more = rows.length > shown.length
      ? Mdm.make("button", { type: "button", onclick: () => { this.all = true; this.show(order); } }, `Show all ${rows.length} classes`) : null;
    return Mdm.make("section", { class: "classes" },
      Mdm.make("h2", {}, "Classes", Mdm.runs.length > 1 ? Mdm.make("small", {}, ` means of ${run.name}`) : Mdm.make("small", {}, " means")),
      Mdm.make("div", { class: "table" }, Mdm.make("table", {}, Mdm.make("thead", {}, Mdm.make("tr", {}, sorter("label", "class"), ...heads.map(({ key, title }) => sorter(key, title)))), Mdm.make("tbody", {}, ...body))),
      more);
  }
};

const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN);

/* A quantity that is the same everywhere, in words. */
function same({ key, title, kind }, runs, order) {
  const values = new Set(runs.flatMap((run) => order.map((e) => Mdm.value(run, key, e))).filter((v) => !Number.isNaN(v)));
  return values.size === 1 ? `${title[0].toUpperCase()}${title.slice(1)}: ${Mdm.show([...values][0], kind)} for all.` : "";
}

function statuses(runs, order) {
  const rows = runs.map((run) => {
    const counts = Mdm.counts(order, (e) => Mdm.status(run, e) || "NOT IN RUN");
    const bar = Mdm.make("div", { class: "stack" });
    for (const [name, count] of counts) {
      const part = Mdm.make("i", { title: `${name}: ${count}`, "data-status": name });
      part.style.flexGrow = count;
      bar.append(part);
    }
    const items = counts.map(([name, count]) =>
      Mdm.make("li", {}, Mdm.make("i", { class: "swatch", "data-status": name }),
        Mdm.make("a", { href: Mdm.format({ ...Mdm.state, status: name, of: String(run.number), page: "grid" }) }, name.toLowerCase().replaceAll("_", " ")),
        ` ${count.toLocaleString("en")}`));
    return Mdm.make("div", {}, runs.length > 1 ? Mdm.make("h3", {}, Mdm.dot(run), run.name) : null, bar, Mdm.make("ul", {}, ...items));
  });
  return Mdm.make("figure", { class: "plot" }, Mdm.make("figcaption", {}, "Status"), ...rows);
}

function histogram({ key, title, kind }, runs, order) {
  const columns = runs.map((run) => {
    const values = Mdm.number(run, key)?.values;
    return values ? Float64Array.from(order, (e) => values[e]).filter(Number.isFinite).sort() : new Float64Array();
  });
  const all = Float64Array.from(columns.flatMap((column) => [...column])).sort();
  if (all.length < 2 || all[0] === all.at(-1)) return null;
  // of a few extreme values the rest would be one bar: the ends are those of 99 % and take in what lies beyond
  const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  let low = quantile(all, 0.005);
  let high = quantile(all, 0.995);
  if (kind === "share" && low >= 0 && high <= 1.05) [low, high] = [0, high > 0.6 ? Math.max(1, high) : Math.ceil(high * 20) / 20];
  if (high <= low) [low, high] = [all[0], all.at(-1)];
  const whole = kind === "count";
  const step = Math.ceil((high - low + 1) / BINS); // of whole numbers every bar takes as many
  const bins = whole ? Math.ceil((high - low + 1) / step) : BINS;
  const width = whole ? step : (high - low) / bins;
  const counts = columns.map((column) => {
    const bars = new Array(bins).fill(0);
    for (const value of column) bars[Math.max(0, Math.min(bins - 1, Math.floor((value - low) / width)))] += 1;
    return bars;
  });
  const top = Math.max(...counts.flat());
  const [W, H, foot] = [320, 120, 18];
  const x = (bin) => (bin / bins) * W;
  const y = (count) => H - (count / top) * (H - 8);
  const picture = draw("svg", { viewBox: `0 0 ${W} ${H + foot}`, role: "img", "aria-label": `Histogram of ${title}: ${words(columns, runs, kind)}` });
  counts.forEach((bars, n) => {
    const run = runs[n].number % 6;
    if (runs.length === 1) bars.forEach((count, bin) => count && picture.append(draw("rect", { x: x(bin) + 0.6, y: y(count), width: W / bins - 1.2, height: H - y(count), rx: 1, class: `bar run-${run}` })));
    else {
      const line = bars.map((count, bin) => `L${x(bin).toFixed(1)} ${y(count).toFixed(1)}H${x(bin + 1).toFixed(1)}`).join("");
      picture.append(draw("path", { d: `M0 ${H}${line}V${H}Z`, class: `area run-${run}` }));
    }
    if (columns[n].length) {
      const middle = Math.min(W, Math.max(0, ((quantile(columns[n], 0.5) - low) / (width * bins)) * W));
      picture.append(draw("line", { x1: middle, x2: middle, y1: 0, y2: H, class: `median run-${run}` }));
    }
  });
  picture.append(draw("line", { x1: 0, x2: W, y1: H + 0.5, y2: H + 0.5, class: "axis" }));
  for (const [value, anchor, at] of [[low, "start", 0], [low + (width * bins) / 2, "middle", W / 2], [low + width * bins - (whole ? 1 : 0), "end", W]]) {
    const text = draw("text", { x: at, y: H + 14, "text-anchor": anchor });
    text.textContent = Mdm.show(whole ? Math.round(value) : value, kind);
    picture.append(text);
  }
  const reference = Mdm.reference();
  if (!reference.other && runs.includes(reference.run)) {
    for (let bin = 0; bin < bins; bin++) {
      const [from, to] = [bin === 0 ? null : tidy(low + bin * width), bin === bins - 1 ? null : tidy(low + (bin + 1) * width)];
      const hit = draw("rect", { x: x(bin), y: 0, width: W / bins, height: H, class: "hit" });
      const tip = draw("title");
      tip.textContent = `${Mdm.show(from ?? low, kind)} to ${Mdm.show(to ?? high, kind)}: ${counts.map((bars) => bars[bin]).join(", ")}`;
      hit.append(tip);
      hit.addEventListener("click", () => Mdm.change({ where: [...Mdm.state.where.filter((each) => each.key !== key), { key, low: from, high: to }] }));
      picture.append(hit);
    }
  }
  return Mdm.make("figure", { class: "plot" }, Mdm.make("figcaption", {}, title), picture,
    ...columns.map((column, n) => Mdm.make("p", {}, runs.length > 1 ? Mdm.dot(runs[n]) : null, told(column, kind))));
}

const tidy = (value) => Number(value.toPrecision(4));
const told = (column, kind) => (column.length
  ? `median ${Mdm.show(column[Math.floor(column.length / 2)], kind)}, mean ${Mdm.show(mean([...column]), kind)}, ${column.length.toLocaleString("en")} images`
  : "no value");
const words = (columns, runs, kind) => columns.map((column, n) => `${runs[n].name}: ${told(column, kind)}`).join("; ");
