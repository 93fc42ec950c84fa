// The images that pass the filters: what is measured of their maps, distributions, and a table of classes.
"use strict";

const FEW = 100;

Mdm.Summary = class {
  constructor(element) {
    this.element = element;
    this.by = "n";
    this.all = false;
  }

  show(order) {
    const runs = Mdm.shownRuns();
    const { run } = Mdm.reference();
    const drawn = [];
    const constant = [];
    const kinds = Mdm.kinds(runs);
    for (const kind of kinds) {
      const figure = Mdm.histogram(kind, runs, order);
      if (figure) drawn.push(figure);
      else if (!kind.better) constant.push(same(kind, runs, order)); // the table has the others
    }
    const hint = drawn.length ? "Dashed lines are medians. Click a bar of a histogram to filter by it; the outermost bars take in the few values beyond." : "";
    this.element.replaceChildren(
      metrics(kinds.filter(({ better }) => better), runs, order),
      Mdm.make("div", { class: "plots" }, statuses(runs, order), ...drawn),
      Mdm.make("p", { class: "hint" }, [...constant.filter(Boolean), hint].filter(Boolean).join(" ")),
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
      for (const { key, values: of } of columns) values[key] = Mdm.mean(entries.map((e) => of[e]).filter((v) => !Number.isNaN(v)));
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
      Mdm.make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Classes" }, Mdm.make("table", {}, Mdm.make("thead", {}, Mdm.make("tr", {}, sorter("label", "class"), ...heads.map(({ key, title }) => sorter(key, title)))), Mdm.make("tbody", {}, ...body))),
      more);
  }
};

const SIDES = { higher: "↑ higher", lower: "↓ lower", none: "neither" };

/* What is measured of the maps, a row a number, and which side of it is better. */
function metrics(kinds, runs, order) {
  const rows = kinds.map((kind) => {
    const cells = Mdm.columns(kind, runs, order).flatMap((column) => (column.length
      ? [Mdm.show(Mdm.mean(column), kind.kind), Mdm.show(Mdm.median(column), kind.kind), column.length.toLocaleString("en")] : ["–", "–", "–"]));
    return Mdm.make("tr", {}, Mdm.make("th", { scope: "row" }, kind.title), Mdm.make("td", {}, SIDES[kind.better]), ...cells.map((cell) => Mdm.make("td", { class: "figure" }, cell)));
  });
  const several = runs.length > 1;
  const names = several ? Mdm.make("tr", {}, Mdm.make("td", { colspan: 2 }), ...runs.map((run) => Mdm.make("th", { scope: "colgroup", colspan: 3 }, Mdm.dot(run), run.name))) : null;
  const heads = ["metric", "better", ...runs.flatMap(() => ["mean", "median", "images"])];
  const head = Mdm.make("tr", {}, ...heads.map((text, n) => Mdm.make("th", { scope: "col", class: n > 1 ? "figure" : null }, text)));
  return Mdm.make("section", { class: "metrics" }, Mdm.make("h2", {}, "Metrics"),
    Mdm.make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Metrics" }, Mdm.make("table", {}, Mdm.make("thead", {}, names, head), Mdm.make("tbody", {}, ...rows))));
}

/* A quantity that is the same everywhere, in words. */
function same({ key, node, title, kind }, runs, order) {
  const values = new Set(runs.flatMap((run) => order.map((e) => Mdm.value(run, key, e, node))).filter((v) => !Number.isNaN(v)));
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
