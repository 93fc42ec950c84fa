// The cards: only those that are to be seen are in the document.
"use strict";

Mdm.SIZES = { s: 104, m: 152, l: 232 };

Mdm.Grid = class {
  constructor(element) {
    this.element = element;
    this.cards = new Map(); // by place in the order
    this.order = [];
    this.active = 0;
    let asked = 0;
    const soon = () => { asked ||= requestAnimationFrame(() => { asked = 0; this.fillWindow(); }); };
    addEventListener("scroll", soon, { passive: true });
    new ResizeObserver(() => requestAnimationFrame(() => { if (this.layout()) this.fillWindow(); })).observe(element);
    element.addEventListener("focusin", (event) => {
      const card = event.target.closest("[data-place]");
      if (card) this.activate(Number(card.dataset.place));
    });
  }

  /* Show these entries from the top. */
  show(order) {
    const same = order.length === this.order.length && order.every((entry, n) => entry === this.order[n]);
    this.order = order;
    if (!same) this.active = 0;
    this.layout(true);
    this.fillWindow();
  }

  /* Where cards lie; whether that changed. Pictures grow until the columns fill the width. */
  layout(anew = false) {
    const width = this.element.clientWidth;
    if (!width) return false;
    const runs = Mdm.shownRuns();
    const gap = width < 560 ? 10 : 16;
    const between = 8;
    const frame = (picture) => runs.length * picture + (runs.length - 1) * between;
    const wanted = Mdm.SIZES[Mdm.state.size] * (width < 560 ? 0.86 : 1);
    const columns = Math.max(1, Math.floor((width + gap) / (frame(wanted) + gap)));
    const room = (width - gap * (columns - 1)) / columns;
    const limit = columns === 1 && this.order.length === 1 ? 1.4 * wanted : Infinity;
    const picture = Math.max(56, Math.min(limit, Math.floor((room - (runs.length - 1) * between) / runs.length)));
    const [height, across] = runs[0].frame.size;
    const tall = Math.round((picture * height) / across);
    const line = parseFloat(getComputedStyle(this.element).getPropertyValue("--line")) || 18;
    const card = tall + line * (4 + (runs.length > 1 ? 1 : 0)) + 10;
    const next = { columns, gap, room: Math.floor(frame(picture)), step: room + gap, picture, row: card + gap + 4, card };
    const changed = anew || JSON.stringify(next) !== JSON.stringify(this.place);
    if (changed) {
      for (const each of this.cards.values()) each.element.remove();
      this.cards.clear();
      this.place = next;
      this.element.style.height = `${Math.ceil(this.order.length / columns) * next.row}px`;
      this.element.style.setProperty("--picture", `${picture}px`);
    }
    return changed;
  }

  fillWindow() {
    if (!this.place || this.element.hidden) return;
    const { columns, row } = this.place;
    const top = -this.element.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / row) - 1) * columns;
    const to = Math.min(this.order.length, (Math.ceil((top + innerHeight) / row) + 1) * columns);
    for (const [place, card] of this.cards) {
      const focused = card.element.contains(document.activeElement); // focus must not vanish with a scroll
      if ((place < from || place >= to) && !focused) {
        card.element.remove();
        this.cards.delete(place);
      }
    }
    let next = [...this.cards.keys()].filter((place) => place >= to).map((place) => this.cards.get(place).element)[0] ?? null;
    for (let place = to - 1; place >= from; place--) { // in the document they stand in order, for whoever hears it read
      const card = this.cards.get(place)?.element ?? this.card(place);
      if (!card.isConnected) this.element.insertBefore(card, next);
      next = card;
    }
  }

  card(place) {
    const entry = this.order[place];
    const { columns, step, row, room, card: height } = this.place;
    const runs = Mdm.shownRuns();
    const tiles = [];
    const columnsOf = runs.map((run) => {
      const tile = new Mdm.Tile(run, entry, this.place.picture);
      tiles.push(tile);
      const name = runs.length > 1 ? Mdm.make("span", { class: "run line", style: null }, dot(run), run.name) : null;
      return Mdm.make("span", { class: "column" }, name, tile.element, ...Mdm.captions(run, entry));
    });
    const title = Mdm.label(entry) || Mdm.id(entry);
    const rank = Mdm.severalRanks ? Mdm.make("small", {}, Mdm.targetOf(entry)) : null;
    const link = Mdm.make(
      "a",
      {
        class: "card", href: Mdm.linkTo(entry), "data-place": place, "data-entry": entry, tabindex: place === this.active ? "0" : "-1",
        title: Mdm.id(entry),
        onclick: (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          Mdm.open(entry);
        },
      },
      Mdm.make("span", { class: "title line" }, title, rank),
      Mdm.make("span", { class: "pictures" }, ...columnsOf),
    );
    const element = Mdm.make(
      "div",
      { role: "listitem", class: "cell", "aria-posinset": place + 1, "aria-setsize": this.order.length }, link,
    );
    element.style.transform = `translate(${Math.round((place % columns) * step)}px, ${Math.floor(place / columns) * row}px)`;
    element.style.width = `${room}px`;
    element.style.height = `${height}px`;
    this.cards.set(place, { element, tiles, link });
    return element;
  }

  /* Draw the pictures again, in another view or with other sliders. */
  redraw() {
    for (const { tiles, link } of this.cards.values()) {
      for (const tile of tiles) tile.draw();
      link.href = Mdm.linkTo(Number(link.dataset.entry));
    }
  }

  activate(place) {
    this.cards.get(this.active)?.link.setAttribute("tabindex", "-1");
    this.active = place;
    this.cards.get(place)?.link.setAttribute("tabindex", "0");
  }

  focus(place) {
    if (!this.order.length || !this.place) return;
    place = Math.min(this.order.length - 1, Math.max(0, place));
    this.reveal(place);
    this.fillWindow();
    this.activate(place);
    this.cards.get(place)?.link.focus({ preventScroll: true });
  }

  /* Scroll so that a card lies between the toolbar and the bottom. */
  reveal(place) {
    const { columns, row, card } = this.place;
    const top = this.element.getBoundingClientRect().top + Math.floor(place / columns) * row;
    const head = Mdm.headHeight();
    if (top < head + 8) scrollBy(0, top - head - 8);
    else if (top + card > innerHeight - 8) scrollBy(0, top + card - innerHeight + 8);
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.place?.columns, ArrowUp: -this.place?.columns };
    if (event.key in steps) this.focus(this.focused() ? this.active + steps[event.key] : this.active);
    else if (event.key === "Home") this.focus(0);
    else if (event.key === "End") this.focus(this.order.length - 1);
    else return false;
    return true;
  }

  focused() {
    return this.element.contains(document.activeElement) && document.activeElement !== this.element;
  }
};

const dot = (run) => Mdm.make("i", { class: "dot", "data-run": run.number % 6 });
Mdm.dot = dot;

Mdm.keptMeans = (run) => `share of the way from the ${run.node} of the fill to that of the image which the masked image keeps`;

/* Three lines below a picture: what was predicted, what is kept of the node, and the area or the number that is sorted by. */
Mdm.captions = (run, entry) => {
  const prediction = Mdm.className(run, run.prediction[entry]);
  const right = Mdm.right(run, entry);
  const first = Mdm.make("span", { class: "line said" });
  if (right !== null) first.append(Mdm.make("b", { class: right ? "right" : "wrong", title: right ? "right" : "wrong" }, Mdm.make("span", { "aria-hidden": "true" }, right ? "✓" : "✗"), Mdm.make("span", { class: "hidden" }, right ? "right: " : "wrong: ")));
  const probability = Mdm.value(run, "probability", entry);
  first.append(Mdm.make("span", {}, prediction || Mdm.status(run, entry) || "–"));
  if (!Number.isNaN(probability)) first.append(Mdm.make("em", {}, probability.toFixed(2).replace(/^0/, "")));
  const second = Mdm.make("span", { class: "line numbers" });
  const kept = Mdm.value(run, "kept", entry);
  if (!Number.isNaN(kept)) second.append(Mdm.make("span", { title: Mdm.keptMeans(run) }, `kept ${Mdm.show(kept, "share")} of ${run.node}`));
  const third = Mdm.make("span", { class: "line numbers" });
  const area = Mdm.value(run, "kept_area", entry);
  const sorted = run.numbers.find((each) => each.key === Mdm.state.sort && !["kept", "kept_area", "probability"].includes(each.key));
  if (sorted && !Number.isNaN(sorted.values[entry])) third.append(Mdm.make("span", { title: sorted.title, class: "sorted" }, `${Mdm.show(sorted.values[entry], sorted.kind)} ${sorted.title}`));
  else if (!Number.isNaN(area)) third.append(Mdm.make("span", { title: "mean of the mask: the share of the image that is kept" }, `area ${Mdm.show(area, "share")}`));
  const status = Mdm.status(run, entry);
  if (Mdm.useless.has(status)) third.append(Mdm.make("span", { title: run.reasons[entry] ?? "", class: "wrong status" }, status.toLowerCase().replaceAll("_", " ")));
  return [first, second, third];
};
