// Why the network says what it says of an image: this looks like that, row by row, and the sum.
"use strict";

Mdm.Decisions = class {
  constructor(element) {
    this.element = element;
    this.shown = null;
    this.tiles = [];
    this.strip = Mdm.make("div", { class: "strip", role: "listbox", "aria-label": "Images", tabindex: "-1" });
    this.strip.append(...Mdm.decisions.map((each, n) => this.thumb(each, n)));
    this.body = Mdm.make("article", { class: "decision", "aria-live": "polite" });
    element.append(this.strip, this.body);
  }

  thumb(decision, n) {
    const right = Mdm.right(decision);
    const said = Mdm.className(decision.prediction);
    const text = `image ${n + 1}: the network says ${said}${right === null ? "" : right ? ", which is right" : `, it is ${Mdm.classNames(decision.classes)}`}`;
    return Mdm.make("button", { type: "button", class: "thumb", role: "option", title: text, "aria-label": text, "data-image": n, onclick: () => Mdm.change({ image: n }) },
      new Mdm.Tile(decision.image, [], { look: "image" }).element,
      Mdm.make("span", { class: right === null ? null : right ? "right" : "wrong" }, said, right === null ? "" : right ? " ✓" : " ✗"));
  }

  step(by) {
    const image = Math.min(Mdm.decisions.length - 1, Math.max(0, this.shown + by));
    if (image !== this.shown) Mdm.change({ image }, true);
  }

  draw() {
    const n = Math.min(Mdm.state.image, Mdm.decisions.length - 1);
    if (n !== this.shown) this.build(n);
    for (const tile of this.tiles) tile.draw();
  }

  build(n) {
    this.shown = n;
    this.tiles = [];
    if (n < 0) return this.body.replaceChildren(Mdm.make("p", { class: "hint" }, "No images were asked for: mdm prototypes --images 12 shows some."));
    for (const each of this.strip.children) each.setAttribute("aria-selected", Number(each.dataset.image) === n);
    this.strip.children[n].scrollIntoView({ block: "nearest", inline: "nearest" });
    const decision = Mdm.decisions[n];
    const says = Mdm.className(decision.target);
    const head = Mdm.make("header", {},
      Mdm.make("h2", {}, `Why the network says ${Mdm.quoted(says)}`),
      Mdm.make("p", {}, `Parts of this image look like parts of training images that it remembers. Each row: similarity × weight = points for ${Mdm.quoted(says)}. The points of all ${Mdm.count(Mdm.prototypes.length, "prototype")} add up to the score; ${Mdm.decided(decision.multiLabel)}.`));
    const whole = this.tile(decision.image, decision.rows.map(({ pair }, k) => ({ pair, color: Mdm.palette[k % Mdm.palette.length] })), { alt: "the image, with every region", large: true });
    const side = Mdm.make("figure", { class: "whole" }, Mdm.make("h3", {}, "The image"), whole, this.facts(decision));
    const rows = decision.rows.map((row, k) => this.row(decision, row, Mdm.palette[k % Mdm.palette.length]));
    const names = Mdm.make("div", { class: "look names" }, ...["This part of the image …", "", "… looks like this part of a training image", "similarity", "", "weight", "", "points"].map((text, k) => Mdm.make("span", { class: k > 2 ? "of-number" : null }, text)), scale());
    return this.body.replaceChildren(head, Mdm.make("div", { class: "reasoning" }, side, Mdm.make("div", { class: "looks" }, names, ...rows, ...this.sum(decision, says))));
  }

  tile(image, pairs, options) {
    const tile = new Mdm.Tile(image, pairs, options);
    this.tiles.push(tile);
    return tile.element;
  }

  facts(decision) {
    const lines = [];
    const right = Mdm.right(decision);
    if (right !== null) lines.push(Mdm.make("p", {}, "true class ", Mdm.make("b", { class: right ? "right" : "wrong" }, Mdm.classNames(decision.classes) || "none", right ? " ✓" : " ✗")));
    if (decision.rival) lines.push(Mdm.make("p", {}, `next: ${Mdm.quoted(Mdm.className(decision.rival[0]))} with a score of ${Mdm.number(decision.rival[1])}`));
    lines.push(Mdm.make("p", { class: "id" }, Mdm.images[decision.image].id));
    return Mdm.make("figcaption", {}, ...lines);
  }

  row(decision, row, color) {
    const prototype = Mdm.prototypes[row.prototype];
    const source = prototype.source;
    const name = Mdm.named(row.prototype);
    const part = this.tile(decision.image, [{ pair: row.pair, color }], { alt: `the part of the image that looks like ${name}` });
    const that = source === null ? this.tile(null, [], {}) : this.tile(Mdm.pairs[source].image, [{ pair: source, color }], { alt: `the part of a training image that ${name} is` });
    const open = Mdm.make("button", { type: "button", class: "plain", title: `More of ${name}`, onclick: () => Mdm.change({ open: row.prototype }) }, that);
    return Mdm.make("div", { class: "look" },
      Mdm.make("div", { class: "this" }, part), sign(row.similarity < 0 ? "≉" : "≈"), open,
      number(Mdm.number(row.similarity)), sign("×"), number(Mdm.number(row.weight)), sign("="), Mdm.make("b", { class: "number" }, Mdm.number(row.points, "+")),
      bar(row.points, largest(decision), color),
      Mdm.make("span", { class: "whose" }, row.similarity < 0 ? `unlike ${name}` : name));
  }

  sum(decision, says) {
    const lines = [];
    const line = (text, points, kind, shown) => lines.push(Mdm.make("div", { class: `look ${kind}` }, Mdm.make("span", { class: "what" }, text), Mdm.make("b", { class: "number" }, shown ?? Mdm.number(points, "+"))));
    if (decision.rest) line(Mdm.count(decision.rest, "other prototype") + (decision.rest === 1 ? "" : " together"), decision.others, "rest");
    if (decision.bias) line("bias of the class", decision.bias, "rest");
    line(`score of ${Mdm.quoted(says)} (logit)`, decision.total, "total", Mdm.number(decision.total));
    return lines;
  }
};

const sign = (text) => Mdm.make("span", { class: "sign" }, text);
const number = (text) => Mdm.make("span", { class: "number" }, text);
const largest = (decision) => Math.max(1e-6, ...decision.rows.map(({ points }) => Math.abs(points)));
const scale = () => Mdm.make("span", { class: "scale" }, Mdm.make("em", {}, "against"), Mdm.make("em", {}, "for"));

/* Points as a length from the middle: to the right for the class, to the left against it. */
function bar(points, most, color) {
  const element = Mdm.make("i", {});
  element.style.width = `${(50 * Math.abs(points)) / most}%`;
  element.style[points < 0 ? "right" : "left"] = "50%";
  element.style.background = color;
  return Mdm.make("span", { class: "points", "aria-hidden": "true" }, element);
}
