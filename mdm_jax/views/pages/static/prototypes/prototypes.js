// The prototypes: all of them by class, and one with its source, its regions and the images that look most like it.
"use strict";

Mdm.Wall = class {
  constructor(element) {
    this.element = element;
    this.tiles = [];
    this.label = null;
  }

  order() {
    const { label } = Mdm.state;
    return Mdm.prototypes.map((_, n) => n).filter((n) => label === "" || Mdm.className(Mdm.prototypes[n].class) === label);
  }

  draw() {
    if (this.label !== Mdm.state.label) this.build();
    for (const tile of this.tiles) tile.draw();
  }

  build() {
    this.label = Mdm.state.label;
    this.tiles = [];
    const groups = new Map();
    for (const n of this.order()) {
      const name = Mdm.className(Mdm.prototypes[n].class) || "no class";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(n);
    }
    this.element.replaceChildren(...[...groups].map(([name, members]) => Mdm.make("section", { class: "group" },
      Mdm.make("h2", {}, name, Mdm.make("small", {}, ` ${Mdm.count(members.length, "prototype")}`)),
      Mdm.make("div", { class: "wall" }, ...members.map((n) => this.card(n))))));
  }

  card(n) {
    const prototype = Mdm.prototypes[n];
    const tile = prototype.source === null ? new Mdm.Tile(null, []) : new Mdm.Tile(Mdm.pairs[prototype.source].image, [{ pair: prototype.source, color: Mdm.palette[1] }], { alt: Mdm.named(n), many: true });
    this.tiles.push(tile);
    return Mdm.make("button", { type: "button", class: "plain prototype", "data-prototype": n, onclick: () => Mdm.change({ open: n }) },
      tile.element, Mdm.make("span", {}, `prototype ${prototype.number}`),
      prototype.note ? Mdm.make("small", { class: "wrong" }, prototype.note) : null);
  }

  /* Arrow keys move over the cards. */
  key(event) {
    const cards = [...this.element.querySelectorAll("[data-prototype]")];
    const here = cards.indexOf(document.activeElement);
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined || !cards.length) return false;
    cards[here < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, here + by))].focus();
    return true;
  }
};

Mdm.Detail = class {
  constructor(dialog, wall) {
    Object.assign(this, { dialog, wall, open: -1, tiles: [] });
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.leave(); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) this.leave(); });
  }

  leave() {
    Mdm.change({ open: -1 });
  }

  draw() {
    const { open } = Mdm.state;
    if (!(open in Mdm.prototypes)) {
      if (this.dialog.open) this.dialog.close();
      this.open = -1;
      this.tiles = [];
      this.dialog.replaceChildren();
      return;
    }
    if (open !== this.open) this.build(open);
    for (const tile of this.tiles) tile.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  step(by) {
    const order = this.wall.order();
    const next = order[order.indexOf(this.open) + by];
    if (next !== undefined) Mdm.change({ open: next }, true);
  }

  tile(image, pair, options = {}) {
    const tile = new Mdm.Tile(image, pair === null ? [] : [{ pair, color: Mdm.palette[1] }], options);
    this.tiles.push(tile);
    return tile.element;
  }

  build(n) {
    const prototype = Mdm.prototypes[n];
    this.open = n;
    this.tiles = [];
    const button = (by, text, label) => Mdm.make("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: () => this.step(by) }, text);
    const title = Mdm.named(n);
    const head = Mdm.make("header", {},
      Mdm.make("div", { class: "name" }, Mdm.make("h2", { id: "detail-title", tabindex: "-1", autofocus: true }, title[0].toUpperCase() + title.slice(1)), Mdm.make("p", {}, this.told(prototype))),
      Mdm.make("div", { class: "steps" }, button(-1, "‹", "Previous prototype (←)"), button(1, "›", "Next prototype (→)"),
        Mdm.make("button", { type: "button", class: "icon", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.leave() }, "×")));
    const sections = [];
    if (prototype.source !== null) sections.push(this.section("Where it is in the image that it comes from, by each way of finding it", this.regions(prototype.source)));
    if (prototype.nearest.length) sections.push(this.section("The training images with the part most like it", prototype.nearest.map((pair) => this.near(pair))));
    const used = Mdm.decisions.flatMap((decision, k) => decision.rows.filter((row) => row.prototype === n).map((row) => ({ k, decision, row })));
    if (used.length) sections.push(this.section("Where it counts among the most", used.map((each) => this.used(each))));
    this.dialog.replaceChildren(head, Mdm.make("div", { class: "content" }, ...sections));
    this.dialog.scrollTop = 0;
  }

  told(prototype) {
    if (prototype.source === null) return prototype.note || "It was never set to a part of a training image.";
    const image = Mdm.images[Mdm.pairs[prototype.source].image];
    const place = prototype.position ? `, row ${prototype.position[0] + 1} and column ${prototype.position[1] + 1} of its feature map` : "";
    const worth = prototype.weight === null ? "" : ` A similarity of 1 gives ${Mdm.number(prototype.weight)} points to its class.`;
    return `A part of the training image ${image.id}${image.classes?.length ? ` (class ${Mdm.quoted(Mdm.classNames(image.classes))})` : ""}${place}.${worth}${prototype.note ? ` ${prototype.note}` : ""}`;
  }

  section(title, figures) {
    return Mdm.make("section", {}, Mdm.make("h3", {}, title), Mdm.make("div", { class: "figures" }, ...figures));
  }

  figure(tile, ...caption) {
    return Mdm.make("figure", {}, tile, Mdm.make("figcaption", {}, ...caption));
  }

  regions(pair) {
    const { image } = Mdm.pairs[pair];
    const look = Mdm.state.look === "image" ? "outline" : null;
    return [
      this.figure(this.tile(image, null, { alt: "the training image", look: "image" }), Mdm.make("strong", {}, "The training image"), blurred(pair)),
      ...Mdm.regions.map((region) => this.figure(this.tile(image, pair, { region, look, alt: region.title }), Mdm.make("strong", {}, region.title), Mdm.make("span", {}, region.about), kept(region, pair))),
    ];
  }

  near(pair) {
    const { image, similarity } = Mdm.pairs[pair];
    return this.figure(this.tile(image, pair, { alt: Mdm.images[image].id }), Mdm.make("strong", {}, `similarity ${Mdm.number(similarity)}`), Mdm.make("span", {}, classOf(image)), Mdm.make("small", {}, Mdm.images[image].id));
  }

  used({ k, decision, row }) {
    const go = Mdm.make("button", { type: "button", class: "plain", onclick: () => Mdm.change({ open: -1, page: "decisions", image: k }) }, this.tile(decision.image, row.pair, { alt: `image ${k + 1}` }));
    return this.figure(go, Mdm.make("strong", {}, `${Mdm.number(row.points, "+")} points for ${Mdm.quoted(Mdm.className(decision.target))}`), Mdm.make("small", {}, Mdm.images[decision.image].id));
  }
};

const classOf = (image) => (Mdm.images[image].classes?.length ? `class ${Mdm.quoted(Mdm.classNames(Mdm.images[image].classes))}` : "");

/* How much is left when nothing is seen but a blur: what every way of finding regions is to be compared with. */
function blurred(pair) {
  const share = Mdm.regions.map((region) => region.blurred?.[pair]).find((each) => each !== undefined && each !== null);
  return share === undefined ? null : Mdm.make("span", {}, `blurred altogether it keeps ${Math.round(100 * share)} % of the similarity`);
}

/* How much of the similarity is left when only the region is seen, where it was measured. */
function kept(region, pair) {
  const share = region.kept?.[pair];
  return share === undefined || share === null ? null : Mdm.make("span", { class: "kept" }, `its strongest ${Math.round(100 * Mdm.keptArea)} % keep ${Math.round(100 * share)} % of the similarity`);
}
