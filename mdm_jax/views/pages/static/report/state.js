// The view, which lives in the address: what is shown, sorted, filtered and opened. A link keeps it, back and forward go through it.
"use strict";

Mdm.VIEWS = [
  ["original", "Original"],
  ["overlay", "Overlay"],
  ["masked", "Masked"],
  ["masks", "Masks"],
];

Mdm.DEFAULTS = {
  page: "grid", view: "overlay", opacity: 75, threshold: 0, map: "inferno", fill: "run", scale: "all", truth: 0, size: "m",
  hide: "", of: "0", sort: "", desc: 0, q: "", label: "", pred: "", right: "", status: "", given: "", where: [], open: "", rank: 0, theme: "",
};

const CHOICES = {
  page: ["grid", "summary"], view: ["original", "overlay", "masked", "masks"], map: ["inferno", "viridis", "cividis"],
  fill: ["run", "blur", "mean", "black", "white"], size: ["s", "m", "l"], right: ["", "right", "wrong"], given: ["", "out", "only"], theme: ["", "light", "dark"],
};

Mdm.state = { ...Mdm.DEFAULTS };

/* A state from the address; what is malformed is as if it were not there. */
Mdm.parse = (hash) => {
  const state = { ...Mdm.DEFAULTS, where: [] };
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(Mdm.DEFAULTS, key)) continue;
    if (key === "where") {
      const match = /^(.+):(-?[\d.]*(?:e-?\d+)?)~(-?[\d.]*(?:e-?\d+)?)$/.exec(value);
      if (match) state.where.push({ key: match[1], low: bound(match[2]), high: bound(match[3]) });
    } else if (typeof Mdm.DEFAULTS[key] === "number") {
      const number = Number(value);
      const top = key === "opacity" || key === "threshold" ? 100 : Infinity;
      if (Number.isFinite(number)) state[key] = Math.min(top, Math.max(0, Math.round(number)));
    } else if (!CHOICES[key] || CHOICES[key].includes(value)) state[key] = value;
  }
  return state;
};

const bound = (text) => (text === "" || !Number.isFinite(Number(text)) ? null : Number(text));

Mdm.format = (state) => {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(Mdm.DEFAULTS)) {
    if (key === "where") for (const each of state.where) words.append("where", `${each.key}:${each.low ?? ""}~${each.high ?? ""}`);
    else if (state[key] !== value) words.set(key, state[key]);
  }
  return `#${words}`;
};

Mdm.hidden = (state = Mdm.state) => new Set(state.hide.split("-").filter(Boolean).map(Number));
Mdm.shownRuns = () => {
  const hidden = Mdm.hidden();
  const shown = Mdm.runs.filter((run) => !hidden.has(run.number));
  return shown.length ? shown : Mdm.runs;
};

/* The run that is sorted and filtered by, and the one it is compared with: "1", or "1-0" for the difference. */
Mdm.reference = () => {
  const [a, b] = Mdm.state.of.split("-").map(Number);
  return { run: Mdm.runs[a] ?? Mdm.runs[0], other: b === undefined ? null : Mdm.runs[b] ?? null };
};
