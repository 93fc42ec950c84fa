// One image, large: every view of every run, and every number.
"use strict";

Mdm.linkTo = (entry) => Mdm.format({ ...Mdm.state, open: Mdm.id(entry), rank: Mdm.rank[entry] });
Mdm.open = (entry) => Mdm.change({ open: Mdm.id(entry), rank: Mdm.rank[entry] });

/* The entry that the address opens, -1 where there is none of that name. */
Mdm.opened = () => {
  const { open, rank } = Mdm.state;
  if (!open) return -1;
  const image = Mdm.ids.indexOf(open);
  const entry = Mdm.image.indexOf(image);
  if (image < 0 || entry < 0) return -1;
  for (let e = entry; Mdm.image[e] === image; e++) if (Mdm.rank[e] === rank) return e;
  return entry;
};

Mdm.Detail = class {
  constructor(dialog, grid) {
    Object.assign(this, { dialog, grid, entry: -1, tiles: [] });
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.leave(); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) this.leave(); });
  }

  leave() {
    Mdm.change({ open: "", rank: 0 });
  }

  follow() {
    const entry = Mdm.opened();
    if (entry < 0) {
      if (!this.dialog.open) return;
      this.dialog.close();
      const place = this.grid.order.indexOf(this.entry);
      this.entry = -1;
      this.dialog.replaceChildren();
      this.tiles = [];
      if (place >= 0) this.grid.focus(place);
      return;
    }
    if (entry !== this.entry) this.build(entry);
    if (!this.dialog.open) this.dialog.showModal();
  }

  /* The next or previous image of the order. */
  step(by) {
    const place = this.grid.order.indexOf(this.entry);
    const next = this.grid.order[place + by];
    if (place >= 0 && next !== undefined) Mdm.change({ open: Mdm.id(next), rank: Mdm.rank[next] }, true);
  }

  redraw() {
    for (const tile of this.tiles) tile.draw();
    for (const each of this.dialog.querySelectorAll("[data-fill-note]")) each.textContent = Mdm.fillOf(Mdm.runs[each.dataset.fillNote]).text;
    Mdm.sliders.update(this.dialog);
    Mdm.colorBar.update(this.dialog);
  }

  build(entry) {
    const inside = this.dialog.contains(document.activeElement) ? document.activeElement?.dataset.step : null;
    this.entry = entry;
    this.tiles = [];
    const place = this.grid.order.indexOf(entry);
    const button = (by, sign, label, enabled) =>
      Mdm.make("button", { type: "button", class: "icon", "data-step": by, "aria-label": label, title: label, disabled: !enabled, onclick: () => this.step(by) }, sign);
    const where = place >= 0 ? `${(place + 1).toLocaleString("en")} of ${this.grid.order.length.toLocaleString("en")}` : "not among the filtered";
    const label = Mdm.label(entry);
    const head = Mdm.make(
      "header", {},
      Mdm.make(
        "div", { class: "name" },
        Mdm.make("h2", { id: "detail-title", tabindex: "-1", autofocus: true }, label || Mdm.id(entry), Mdm.severalRanks ? Mdm.make("small", {}, Mdm.targetOf(entry)) : null),
        Mdm.make("p", {}, Mdm.id(entry)),
      ),
      Mdm.sliders.make("detail"),
      Mdm.colorBar.make(),
      Mdm.make(
        "div", { class: "steps" },
        Mdm.make("span", { class: "where" }, where),
        button(-1, "‹", "Previous image (←)", place > 0),
        button(1, "›", "Next image (→)", place >= 0 && place < this.grid.order.length - 1),
        Mdm.make("button", { type: "button", class: "icon", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.leave() }, "×"),
      ),
    );
    const runs = Mdm.shownRuns();
    this.dialog.replaceChildren(head, Mdm.make("div", { class: runs.length > 1 ? "content several" : "content" }, ...runs.map((run) => this.pictures(run, entry, runs)), table(entry, runs)));
    this.dialog.scrollTop = 0;
    Mdm.sliders.update(this.dialog);
    if (inside) this.dialog.querySelector(`[data-step="${inside}"]:not(:disabled)`)?.focus();
  }

  pictures(run, entry, runs) {
    const figures = [];
    const small = [];
    const add = (caption, options, into = figures) => {
      const tile = new Mdm.Tile(run, entry, into === small ? 220 : 420, { large: true, ...options });
      this.tiles.push(tile);
      into.push(Mdm.make("figure", { class: into === small ? "small" : null }, tile.element, Mdm.make("figcaption", {}, caption)));
    };
    add("Original", { view: "original" });
    const status = Mdm.status(run, entry);
    const there = status && !Number.isNaN(Mdm.value(run, "kept_area", entry) + (run.kind === "none" ? NaN : 0));
    const reason = run.reasons[entry];
    if (status && run.kind !== "none" && (there || !reason)) {
      add("Overlay", { view: "overlay" });
      add("Seen through the mask", { view: "masked" });
      if (run.kind === "masks") run.sizes.forEach(([h, w], k) => add(`Mask ${h}×${w}`, { view: "masks", scale: Mdm.sizeName(run, k) }, small));
      else add(`Map ${run.sizes[0].join("×")}`, { view: "masks", scale: "all" }, small);
    }
    const notes = [];
    if (!status) notes.push("This image is not in this run.");
    if (status && reason) notes.push(reason);
    if (run.frame.reasons[Mdm.image[entry]] && !reason) notes.push(`No picture: ${run.frame.reasons[Mdm.image[entry]]}`);
    const same = runs.find((each) => Mdm.fillOf(each).text === Mdm.fillOf(run).text); // said once
    const fill = figures.length > 1 && same === run ? Mdm.make("p", { class: "hint", "data-fill-note": run.number }, Mdm.fillOf(run).text) : null;
    return Mdm.make(
      "section", { class: "of-run", "aria-label": run.name },
      runs.length > 1 ? Mdm.make("h3", {}, Mdm.dot(run), run.name) : null,
      ...notes.map((text) => Mdm.make("p", { class: "reason" }, text)),
      ...(runs.length > 1 ? [[...figures, ...small]] : [figures, small]).filter((row) => row.length).map((row) => Mdm.make("div", { class: "figures" }, ...row)),
      fill,
    );
  }
};

/* Every number of an entry, a column a run; a number in the unit of a node stands in the columns of that node alone. */
function table(entry, runs) {
  const rows = [];
  const add = (title, cells) => { if (cells.some((cell) => cell !== "" && cell !== "–")) rows.push([title, cells]); };
  const mark = (run) => { const right = Mdm.right(run, entry); return right === null ? "" : right ? " ✓" : " ✗"; };
  add("true class", runs.map(() => Mdm.label(entry) || "–"));
  add("prediction", runs.map((run) => (Mdm.className(run, run.prediction[entry]) || "–") + mark(run)));
  add("target explained", runs.map((run) => Mdm.className(run, run.target[entry]) || "–"));
  add("status", runs.map((run) => Mdm.status(run, entry) || "not in this run"));
  for (const { key, node, title, kind } of Mdm.kinds(runs)) add(title, runs.map((run) => Mdm.show(Mdm.value(run, key, entry, node), kind)));
  if (runs.some((run) => run.vector)) add("node", runs.map((run) => (run.vector ? "a vector: see records" : "")));
  const head = runs.length > 1 ? Mdm.make("thead", {}, Mdm.make("tr", {}, Mdm.make("td", {}), ...runs.map((run) => Mdm.make("th", { scope: "col" }, Mdm.dot(run), run.name)))) : null;
  const body = rows.map(([title, cells]) => Mdm.make("tr", {}, Mdm.make("th", { scope: "row" }, title), ...cells.map((cell) => Mdm.make("td", {}, cell))));
  return Mdm.make("div", { class: "table" }, Mdm.make("table", { class: runs.length > 1 ? "several" : "" }, head, Mdm.make("tbody", {}, ...body)));
}
