// The controls: toolbar, filters, sliders. They only change the state; drawing follows from it.
"use strict";

const make = Mdm.make;

function select(id, label, options, onchange) {
  const element = make("select", { id, onchange: () => onchange(element.value) });
  element.append(...options.map(([value, text]) => make("option", { value }, text)));
  return make("label", { class: "field", for: id }, make("span", {}, label), element);
}

/* Opacity and threshold, in the toolbar and in the detail. */
Mdm.sliders = {
  make(where) {
    const slider = (key, label) => {
      const input = make("input", {
        type: "range", min: 0, max: 100, step: 1, id: `${where}-${key}`, "data-slider": key,
        oninput: () => Mdm.change({ [key]: Number(input.value) }, true),
      });
      return make("label", { class: "slider", for: `${where}-${key}`, "data-for": key }, make("span", {}, label), input, make("output", { "data-output": key }));
    };
    return make("div", { class: "sliders" }, slider("opacity", "Opacity"), slider("threshold", "Threshold"));
  },
  update(within) {
    for (const input of within.querySelectorAll("[data-slider]")) input.value = Mdm.state[input.dataset.slider];
    for (const output of within.querySelectorAll("[data-output]")) output.textContent = `${Mdm.state[output.dataset.output]} %`;
  },
};

/* What the colors of maps mean: 0 to 1, without those that the threshold leaves out. */
Mdm.colorBar = {
  make: () => make("div", { class: "colorbar", "data-for": "bar" }, make("span", { "data-means": "" }), make("span", {}, "0"),
    make("canvas", { width: 128, height: 1, "aria-hidden": "true" }), make("span", {}, "1")),
  update(within) {
    const { map, threshold, view } = Mdm.state;
    for (const bar of within.querySelectorAll(".colorbar")) {
      const canvas = bar.querySelector("canvas");
      const both = within.id === "detail";
      bar.title = "saliency: 0 is the least and 1 the most of an image; masks: 0 is hidden and 1 kept";
      bar.querySelector("[data-means]").textContent = both ? "Saliency, masks" : view === "masks" ? "Mask" : "Saliency";
      Mdm.paintBar(canvas, Mdm.colors[map], !both && view === "masks" ? 0 : threshold / 100);
    }
  },
};

Mdm.Toolbar = class {
  constructor(element) {
    this.element = element;
    const views = make("div", { class: "segments", role: "group", "aria-label": "View" },
      ...Mdm.VIEWS.map(([view, title], n) => make("button", { type: "button", "data-view": view, title: `${title} (${n + 1})`, onclick: () => Mdm.change({ view }) }, title)));
    const scales = [...new Map(Mdm.runs.filter((run) => run.kind === "masks").flatMap((run) => run.sizes.map((size, k) => [Mdm.sizeName(run, k), size.join("×")])))];
    const sizes = make("div", { class: "segments small", role: "group", "aria-label": "Size of the pictures" },
      ...[["s", "S", "Small"], ["m", "M", "Medium"], ["l", "L", "Large"]].map(([size, sign, title]) => make("button", { type: "button", "data-size": size, title: `${title} pictures`, "aria-label": `${title} pictures`, onclick: () => Mdm.change({ size }) }, sign)));
    element.append(
      views,
      Mdm.sliders.make("tool"),
      Mdm.colorBar.make(),
      select("map", "Colors", [["inferno", "Inferno"], ["viridis", "Viridis"], ["cividis", "Cividis"]], (map) => Mdm.change({ map })),
      select("fill", "Fill", [["run", "as in the run"], ["blur", "blur"], ["mean", "mean color"], ["black", "black"], ["white", "white"]], (fill) => Mdm.change({ fill })),
      select("scale", "Size", [["all", "all sizes"], ...scales], (scale) => Mdm.change({ scale })),
      Mdm.frames.some((frame) => Mdm.hasTruth(frame)) ? make("button", { type: "button", id: "truth", class: "toggle", title: "Outline of the object (o)", onclick: () => Mdm.change({ truth: 1 - Mdm.state.truth }) }, "Object") : "",
      sizes,
      Mdm.runs.length > 1 ? this.runs() : "",
    );
  }

  runs() {
    const chip = (run) => make("button", {
      type: "button", class: "chip", "data-chip": run.number, title: `Show ${run.name}`,
      onclick: () => {
        const hidden = Mdm.hidden();
        if (hidden.has(run.number)) hidden.delete(run.number);
        else hidden.add(run.number);
        if (hidden.size < Mdm.runs.length) Mdm.change({ hide: [...hidden].sort().join("-") });
      },
    }, Mdm.dot(run), run.name);
    return make("div", { class: "chips", role: "group", "aria-label": "Runs that are shown" }, ...Mdm.runs.map(chip));
  }

  update() {
    const { state } = Mdm;
    const press = (selector, on) => this.element.querySelectorAll(selector).forEach((each) => each.setAttribute("aria-pressed", on(each)));
    press("[data-view]", (each) => each.dataset.view === state.view);
    press("[data-size]", (each) => each.dataset.size === state.size);
    press("#truth", () => Boolean(state.truth));
    press("[data-chip]", (each) => !Mdm.hidden().has(Number(each.dataset.chip)));
    for (const key of ["map", "fill", "scale"]) this.element.querySelector(`#${key}`).value = state[key];
    const wanted = { opacity: ["overlay"], threshold: ["overlay", "masked"], map: ["overlay", "masks"], bar: ["overlay", "masks"], fill: ["masked"], scale: ["masks"] };
    for (const [key, views] of Object.entries(wanted)) this.element.querySelector(`[data-for="${key}"], [for="${key}"]`).hidden = !views.includes(state.view);
    const fill = this.element.querySelector('[for="fill"]');
    fill.title = Mdm.fillOf(Mdm.reference().run).text;
    Mdm.sliders.update(this.element);
    Mdm.colorBar.update(this.element);
  }
};

/* Whether any picture may have an outline: energy was measured, or there is a cell to draw. */
Mdm.hasTruth = (frame) => Mdm.runs.some((run) => run.frame === frame && Mdm.number(run, "energy"));

Mdm.Filters = class {
  constructor(element) {
    this.element = element;
    const runs = Mdm.runs.map((run) => [String(run.number), run.name]);
    const pairs = Mdm.runs.flatMap((a) => Mdm.runs.filter((b) => b !== a).map((b) => [`${a.number}-${b.number}`, `${a.name} minus ${b.name}`]));
    this.conditions = make("div", { class: "conditions" });
    element.append(
      Mdm.runs.length > 1 ? make("section", {}, select("of", "Numbers and predictions of", [...runs, ...pairs], (of) => Mdm.change({ of }))) : "",
      make("section", {},
        select("sort", "Sort by", [], (sort) => Mdm.change({ sort })),
        make("button", { type: "button", id: "desc", class: "wide", onclick: () => Mdm.change({ desc: 1 - Mdm.state.desc }) })),
      make("section", {},
        select("label", "True class", [], (label) => Mdm.change({ label })),
        select("pred", "Prediction", [], (pred) => Mdm.change({ pred })),
        make("div", { class: "field" }, make("span", {}, "The prediction is"),
          make("div", { class: "segments", role: "group", "aria-label": "The prediction is" },
            ...[["", "any"], ["right", "right"], ["wrong", "wrong"]].map(([right, text]) => make("button", { type: "button", "data-right": right, onclick: () => Mdm.change({ right }) }, text)))),
        select("status", "Status", [], (status) => Mdm.change({ status })),
        Mdm.runs.some((each) => each.status.names.some((name) => Mdm.useless.has(name))) ? select("given", "Images given up", [], (given) => Mdm.change({ given })) : ""),
      make("section", {}, this.conditions, select("add", "Filter by a number", [], (key) => {
        if (key) Mdm.change({ where: [...Mdm.state.where.filter((each) => each.key !== key), { key, low: null, high: null }] });
        this.conditions.querySelector(`[data-key="${CSS.escape(key)}"] input`)?.focus();
      })),
      make("button", {
        type: "button", id: "clear", class: "wide",
        onclick: () => Mdm.change({ q: "", label: "", pred: "", right: "", status: "", given: "", where: [] }),
      }, "Clear filters"),
    );
  }

  update() {
    const { state } = Mdm;
    const { run } = Mdm.reference();
    const quantities = Mdm.quantities();
    const fill = (id, options, value) => {
      const element = this.element.querySelector(`#${id}`);
      if (value && !options.some(([each]) => each === value)) options.push([value, value]);
      element.replaceChildren(...options.map(([each, text]) => make("option", { value: each }, text)));
      element.value = value;
    };
    const counted = (key, text, any) => {
      const counts = Mdm.counts(Mdm.matching(key), text);
      return [["", any], ...counts.map(([name, count]) => [name, `${name}  (${count.toLocaleString("en")})`])];
    };
    if (Mdm.runs.length > 1) this.element.querySelector("#of").value = state.of;
    fill("sort", [["", "order of the data"], ["id", "name"], ["label", "true class"], ["pred", "prediction"], ["target", "target"], ["status", "status"],
      ...quantities.map(({ key, title }) => [key, title])], state.sort);
    fill("label", counted("label", Mdm.label, "all classes"), state.label);
    fill("pred", counted("pred", (e) => Mdm.className(run, run.prediction[e]), "all predictions"), state.pred);
    fill("status", counted("status", (e) => Mdm.status(run, e) || "NOT IN RUN", "all"), state.status);
    if (this.element.querySelector("#given")) {
      const among = Mdm.matching("given");
      const lost = among.filter(Mdm.anyGivenUp).length;
      fill("given", [["", `shown  (${lost.toLocaleString("en")})`], ["out", `left out  (${(among.length - lost).toLocaleString("en")} remain)`], ["only", "nothing else"]], state.given);
    }
    fill("add", [["", "choose …"], ...quantities.filter(({ key }) => !state.where.some((each) => each.key === key)).map(({ key, title }) => [key, title])], "");
    const desc = this.element.querySelector("#desc");
    desc.textContent = state.desc ? "↓ descending" : "↑ ascending";
    desc.setAttribute("aria-pressed", Boolean(state.desc));
    this.element.querySelectorAll("[data-right]").forEach((each) => each.setAttribute("aria-pressed", each.dataset.right === state.right));
    const filtered = ["q", "label", "pred", "right", "status", "given"].some((key) => state[key] !== "") || state.where.length;
    this.element.querySelector("#clear").hidden = !filtered;
    this.bounds(quantities);
  }

  /* A row for each condition; those that stay keep their inputs, in one of which someone may be typing. */
  bounds(quantities) {
    const { where } = Mdm.state;
    for (const row of [...this.conditions.children]) if (!where.some((each) => each.key === row.dataset.key)) row.remove();
    for (const { key, low, high } of where) {
      const quantity = quantities.find((each) => each.key === key);
      const scale = quantity?.kind === "share" ? 100 : 1;
      let row = this.conditions.querySelector(`[data-key="${CSS.escape(key)}"]`);
      if (!row) {
        const set = (end) => (event) => {
          const value = event.target.value === "" ? null : Number((Number(event.target.value) / scale).toPrecision(12));
          Mdm.change({ where: Mdm.state.where.map((each) => (each.key === key ? { ...each, [end]: value } : each)) }, true);
        };
        const title = quantity?.title ?? key;
        const input = (end, text) => make("input", { type: "number", step: "any", inputmode: "decimal", placeholder: text, "aria-label": `${title}, ${text}`, "data-end": end, oninput: set(end) });
        row = make("div", { class: "condition", "data-key": key },
          make("span", {}, `${title}${scale === 100 ? ", %" : ""}`),
          make("button", { type: "button", class: "icon", "aria-label": `Remove the filter by ${title}`, onclick: () => Mdm.change({ where: Mdm.state.where.filter((each) => each.key !== key) }) }, "×"),
          input("low", "from"), input("high", "to"));
        this.conditions.append(row);
      }
      for (const [end, value] of [["low", low], ["high", high]]) {
        const input = row.querySelector(`[data-end="${end}"]`);
        if (input !== document.activeElement) input.value = value === null ? "" : Number((value * scale).toPrecision(6));
      }
    }
  }
};
