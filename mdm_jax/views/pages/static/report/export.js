// What is selected, saved: its numbers as CSV, its images as a sheet to print, the plots of the summary as SVG.
"use strict";

function save(name, type, text) {
  const link = Mdm.make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/* A cell: a text in one line, that a spreadsheet shows and does not compute. */
function cell(value) {
  if (typeof value === "number") return Number.isNaN(value) ? "" : String(Number(value.toPrecision(9))); // values are kept in 32 bits
  const plain = value.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
  const safe = /^[=+\-@]/.test(plain) && !/^[+-]?[\d.]+$/.test(plain) ? `'${plain}` : plain;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/* A line for each image and run that is shown, in the order of the page; numbers under the names that records have. */
Mdm.table = (order) => {
  const runs = Mdm.shownRuns();
  const keys = [...new Set(runs.flatMap((run) => run.all.map(({ key }) => key)))];
  const lines = [["run", "node", "id", "label", "rank", "target", "prediction", "right", "status", "given_up", "reason", ...keys]];
  for (const entry of order) {
    for (const run of runs) {
      if (!Mdm.status(run, entry)) continue; // not in this run
      const right = Mdm.right(run, entry);
      lines.push([
        run.name, run.node, Mdm.id(entry), Mdm.label(entry), Mdm.rank[entry], Mdm.className(run, run.target[entry]),
        Mdm.className(run, run.prediction[entry]), right === null ? "" : right ? "yes" : "no", Mdm.status(run, entry),
        Mdm.givenUp(run, entry) ? "yes" : "no", run.reasons[entry] ?? "", ...keys.map((key) => run.all.find((each) => each.key === key)?.values[entry] ?? NaN),
      ]);
    }
  }
  return lines.map((line) => `${line.map(cell).join(",")}\n`).join("");
};

Mdm.saveTable = (order) => save("mdm-report.csv", "text/csv", Mdm.table(order));

/* The selection in words. */
Mdm.selection = () => {
  const { q, label, pred, right, status, given, where, sort, desc } = Mdm.state;
  const quantities = Mdm.quantities();
  const title = (key) => quantities.find((each) => each.key === key)?.title ?? key;
  const end = (key, value) => Mdm.show(value, quantities.find((each) => each.key === key)?.kind);
  return [
    document.getElementById("count").textContent,
    q && `with “${q}”`, label && `true class ${label}`, pred && `predicted ${pred}`, right && `prediction ${right}`, status && `status ${status}`,
    given && (given === "only" ? "only images given up" : "without images given up"),
    ...where.map(({ key, low, high }) => `${title(key)}${low === null ? "" : ` from ${end(key, low)}`}${high === null ? "" : ` to ${end(key, high)}`}`),
    sort && `by ${title(sort)}${desc ? ", descending" : ""}`,
  ].filter(Boolean).join("; ");
};

const MOST = 60;

/* Pages from files may not read their pictures, so that no script can save them: the browser prints them, perhaps as PDF. */
Mdm.printSheet = async (sheet, order) => {
  const runs = Mdm.shownRuns();
  const tiles = [];
  const figures = order.slice(0, MOST).map((entry) => {
    const columns = runs.map((run) => {
      const tile = new Mdm.Tile(run, entry, 300, { eager: true });
      tiles.push(tile);
      const name = runs.length > 1 ? Mdm.make("span", { class: "run line" }, Mdm.dot(run), run.name) : null;
      return Mdm.make("span", { class: "column" }, name, tile.element, ...Mdm.captions(run, entry));
    });
    return Mdm.make("figure", {}, Mdm.make("figcaption", { class: "title line" }, Mdm.label(entry) || Mdm.id(entry)), Mdm.make("span", { class: "pictures" }, ...columns));
  });
  const left = order.length - figures.length;
  const legend = runs.map((run) => Mdm.make("span", {}, Mdm.dot(run), `${run.name} (${run.node})`));
  const bar = Mdm.colorBar.make();
  sheet.replaceChildren(
    Mdm.make("p", { class: "legend" }, ...legend, bar),
    Mdm.make("p", {}, Mdm.selection() + (left ? `; the first ${MOST}` : "")),
    Mdm.make("div", { class: "sheet" }, ...figures),
  );
  sheet.style.setProperty("--picture", "auto");
  sheet.querySelector(".sheet").style.setProperty("--across", Math.max(1, Math.floor(6 / runs.length)));
  Mdm.colorBar.update(sheet);
  bar.hidden = !["overlay", "masks"].includes(Mdm.state.view);
  for (const tile of tiles) tile.draw();
  const pending = () => tiles.some((tile) => tile.element.classList.contains("waiting") || (tile.picture && !tile.lost && !tile.picture.complete));
  for (let waited = 0; pending() && waited < 200; waited++) await new Promise((resolve) => setTimeout(resolve, 50));
  document.body.classList.add("printing");
  print();
  document.body.classList.remove("printing");
  sheet.replaceChildren();
};

/* The histograms in one SVG, in the colors of the page. */
Mdm.plots = (summary) => {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const runs = Mdm.shownRuns();
  const figures = [...summary.querySelectorAll(".plot")].filter((each) => each.lines);
  const [across, wide, margin, head] = [3, 356, 24, 64];
  const tall = 176 + 16 * Math.max(1, ...figures.map(({ lines }) => lines.length));
  const [width, height] = [across * wide + margin, head + Math.ceil(figures.length / across) * tall];
  const text = (x, y, words, kind = "") => Mdm.shape("text", { x, y, class: kind }, words);
  const rules = [
    `text{font:11px sans-serif;fill:${color("--soft")}}.strong{font-weight:600;font-size:13px;fill:${color("--ink")}}`,
    `.area{fill-opacity:.16;stroke-width:1.5}.median{stroke-width:1.5;stroke-dasharray:3 3}.axis{stroke:${color("--soft")}}`,
    ...[0, 1, 2, 3, 4, 5].map((n) => `.run-${n}{fill:${color(`--run-${n}`)};stroke:${color(`--run-${n}`)}}.bar.run-${n}{stroke:none}`),
    `.bar~.median{stroke:${color("--ink")}}`,
  ];
  const whole = Mdm.shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height },
    Mdm.shape("style", {}, rules.join("")), Mdm.shape("rect", { width, height, fill: color("--ground") }),
    text(margin, 26, runs.map((run) => `${run.name} (${run.node})`).join(" · "), "strong"), text(margin, 44, Mdm.selection()));
  figures.forEach((figure, n) => {
    const [x, y] = [margin + (n % across) * wide, head + Math.floor(n / across) * tall];
    const plot = figure.querySelector("svg").cloneNode(true);
    plot.querySelectorAll(".hit").forEach((each) => each.remove());
    for (const [key, value] of Object.entries({ x, y: y + 18, width: wide - margin, height: 138 * ((wide - margin) / 320) })) plot.setAttribute(key, value);
    whole.append(text(x, y + 10, figure.querySelector("figcaption").textContent, "strong"), plot);
    figure.lines.forEach((line, k) => whole.append(text(x, y + 176 + 16 * k, (runs.length > 1 ? `${line.runs.map(({ name }) => name).join(", ")}: ` : "") + line.text)));
  });
  return new XMLSerializer().serializeToString(whole);
};

Mdm.savePlots = (summary) => save("mdm-report.svg", "image/svg+xml", Mdm.plots(summary));
