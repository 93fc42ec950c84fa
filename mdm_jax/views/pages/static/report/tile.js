// One picture of one run in one view: the same in the grid and in the detail.
"use strict";

Mdm.Tile = class {
  /* `view` fixes the view (and `scale` the mask) whatever the toolbar says; `large` draws every pixel of the frame; `eager` loads what is not seen. */
  constructor(run, entry, pixels, { view = null, scale = null, large = false, eager = large } = {}) {
    Object.assign(this, { run, entry, pixels, view, scale, large, image: Mdm.image[entry] });
    this.element = Mdm.make("div", { class: "tile" });
    const [height, width] = run.frame.size;
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.picture = null;
    if (run.frame.there[this.image]) {
      this.picture = Mdm.make("img", { class: "picture", loading: eager ? null : "lazy", decoding: "async", draggable: "false" });
      this.picture.width = width;
      this.picture.height = height;
      this.picture.onload = () => this.draw();
      this.picture.onerror = () => { this.lost = true; this.draw(); };
      this.picture.alt = large ? Mdm.describe(run, entry) : ""; // a card says the same in words
      this.picture.src = Mdm.picture(run.frame, this.image);
    }
    this.again = () => { if (this.element.isConnected) this.draw(); };
    this.draw();
  }

  draw() {
    const view = this.view ?? Mdm.state.view;
    const parts = this.picture && !this.lost ? [this.picture] : [];
    const [height, width] = this.large ? this.run.frame.size : Mdm.resolution(this.run);
    const stack = view === "original" ? null : Mdm.stack(this.run, this.entry, height, width, this.again);
    this.element.dataset.view = view;
    this.element.classList.toggle("waiting", stack === null && view !== "original");
    if (stack === undefined) parts.push(this.note(this.missing()));
    else if (stack && view === "overlay") parts.push(this.heat(stack));
    else if (stack && view === "masked") this.masked(stack, parts);
    else if (stack && view === "masks") parts.splice(0, parts.length, this.masks(stack));
    else if (!parts.length && view === "original") parts.push(this.note(this.unseen()));
    if (Mdm.state.truth && view !== "masks" && !this.lost && stack !== undefined) {
      const bytes = Mdm.besideBytes(this.run.frame, this.image, this.again);
      if (bytes && bytes[3]) {
        this.outline ??= Mdm.make("canvas", { class: "layer outline", "aria-hidden": "true" });
        Mdm.paintTruth(this.outline, this.run.frame, bytes, this.room());
        parts.push(this.outline);
      }
    }
    this.element.replaceChildren(...parts);
  }

  heat(stack) {
    this.layer ??= Mdm.make("canvas", { class: "layer", "aria-hidden": "true" });
    const key = `${Mdm.state.threshold} ${Mdm.state.map}`;
    if (this.drawn !== key) Mdm.paintHeat(this.layer, stack, Mdm.state.threshold / 100, Mdm.colors[Mdm.state.map]);
    this.drawn = key;
    this.layer.style.opacity = Mdm.state.opacity / 100;
    return this.layer;
  }

  masked(stack, parts) {
    if (!parts.length) return parts.push(this.note(this.unseen()));
    if (!this.picture.complete || !this.picture.naturalWidth) return 0; // drawn when it is there
    const fill = Mdm.fill(this.run, this.image, Mdm.fillOf(this.run).name, this.again);
    if (fill === null) return 0;
    this.seen ??= Mdm.make("canvas", { class: "layer opaque", "aria-hidden": "true" });
    Mdm.paintMasked(this.seen, this.picture, stack, Mdm.state.threshold / 100, fill, this.room());
    return parts.push(this.seen);
  }

  /* Each mask on its own; of several sizes those that are asked for, side by side. */
  masks({ maps }) {
    const asked = this.scale ?? Mdm.state.scale;
    const chosen = maps.filter((_, k) => asked === "all" || asked === Mdm.sizeName(this.run, k));
    const shown = chosen.length ? chosen : maps;
    const box = Mdm.make("div", this.large ? { class: "mosaic", role: "img", "aria-label": `masks of ${Mdm.describe(this.run, this.entry)}` } : { class: "mosaic", "aria-hidden": "true" });
    box.style.setProperty("--across", shown.length > 1 ? 2 : 1);
    const [height, width] = this.large ? this.run.frame.size : Mdm.resolution(this.run);
    for (const map of shown) {
      const canvas = Mdm.make("canvas", { title: `${map.h}×${map.w}` });
      Mdm.paintMap(canvas, map, height, width, Mdm.colors[Mdm.state.map]);
      box.append(canvas);
    }
    return box;
  }

  room() {
    const [height, width] = this.run.frame.size;
    const across = Math.min(1024, Math.round(this.pixels * Math.min(2, devicePixelRatio || 1)));
    return { width: across, height: Math.max(1, Math.round((across * height) / width)) };
  }

  missing() {
    const status = Mdm.status(this.run, this.entry);
    if (!status) return ["Not in this run", ""];
    if (this.run.kind === "none") return ["No map", "the run kept none"];
    const reason = this.run.reasons[this.entry] ?? "";
    return reason || !["CONVERGED", "OUT_OF_STEPS"].includes(status) ? [status, reason] : ["Map missing", "its file cannot be read"];
  }

  unseen() {
    return ["No picture", this.run.reasons[this.entry] ?? this.run.frame.reasons[this.image] ?? (this.lost ? "its file cannot be read" : "")];
  }

  note([title, reason]) {
    return Mdm.make("div", { class: "note", title: reason }, Mdm.make("strong", {}, title), Mdm.make("span", {}, reason));
  }
};

Mdm.sizeName = (run, k) => {
  const name = `${run.sizes[k][0]}x${run.sizes[k][1]}`;
  const before = run.sizes.slice(0, k).filter(([h, w]) => `${h}x${w}` === name).length;
  return before ? `${name}-${before + 1}` : name;
};

/* Which of an image's targets an entry explains, where there are several; as the run that is filtered by has it. */
Mdm.targetOf = (entry) => {
  const { run } = Mdm.reference();
  const name = Mdm.className(run, run.target[entry]);
  return Mdm.severalRanks ? ` target ${Mdm.rank[entry] + 1}${name ? `: ${name}` : ""}` : "";
};

/* An entry in words, for alt texts and labels. */
Mdm.describe = (run, entry) => {
  const prediction = Mdm.className(run, run.prediction[entry]);
  const right = Mdm.right(run, entry);
  const words = [(Mdm.label(entry) || Mdm.id(entry)) + Mdm.targetOf(entry)];
  if (prediction) words.push(`predicted ${prediction}${right === null ? "" : right ? ", right" : ", wrong"}`);
  const kept = Mdm.value(run, "kept", entry);
  const area = Mdm.value(run, "kept_area", entry);
  if (!Number.isNaN(kept)) words.push(`${Mdm.show(kept, "share")} of the ${run.node} kept`);
  if (!Number.isNaN(area)) words.push(`area ${Mdm.show(area, "share")}`);
  if (run.reasons[entry]) words.push(`${Mdm.status(run, entry)}: ${run.reasons[entry]}`);
  return words.join(", ");
};
