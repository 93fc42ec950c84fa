// What the page knows, and the view, which lives in the address.
"use strict";

/* Called by data/index.js. */
Mdm.receive = (plain) => {
  Object.assign(Mdm, plain);
  Mdm.colors = Mdm.bytes(plain.colors);
  Mdm.DEFAULTS.share = plain.share;
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", Mdm.start);
  else Mdm.start();
};

Mdm.LOOKS = [["outline", "Outline"], ["heat", "Heat"], ["image", "Image"]];

Mdm.DEFAULTS = { page: "decisions", image: 0, open: -1, region: "", look: "outline", share: 10, label: "", theme: "" };
const CHOICES = { page: ["decisions", "prototypes"], look: ["outline", "heat", "image"], theme: ["", "light", "dark"] };
const BOUNDS = { share: [1, 50], image: [0, 1e9], open: [-1, 1e9] };

Mdm.state = { ...Mdm.DEFAULTS };

/* A state from the address; what is malformed is as if it were not there. */
Mdm.parse = (hash) => {
  const state = { ...Mdm.DEFAULTS };
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(Mdm.DEFAULTS, key)) continue;
    if (BOUNDS[key]) {
      const number = Number(value);
      if (Number.isFinite(number)) state[key] = Math.min(BOUNDS[key][1], Math.max(BOUNDS[key][0], Math.round(number)));
    } else if (!CHOICES[key] || CHOICES[key].includes(value)) state[key] = value;
  }
  return state;
};

Mdm.format = (state) => {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(Mdm.DEFAULTS)) if (state[key] !== value) words.set(key, state[key]);
  return `#${words}`;
};

Mdm.className = (number) => (number === null || number < 0 ? "" : Mdm.classes[number] ?? String(number));
Mdm.classNames = (numbers) => (numbers ?? []).map(Mdm.className).join(", ");
Mdm.right = ({ classes, prediction }) => (classes === null ? null : classes.includes(prediction)); // null: nobody knows
Mdm.quoted = (name) => `“${name}”`;
Mdm.picture = (image) => `images/${String(image).padStart(6, "0")}.${Mdm.suffix}`;
Mdm.region = () => Mdm.regions.find((each) => each.key === Mdm.state.region) ?? Mdm.regions[0];
Mdm.count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/* Two places; a minus as wide as a plus. */
Mdm.number = (value, sign = "") => {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = value.toFixed(2).replace("-", "−");
  return sign && !text.startsWith("−") ? sign + text : text;
};

Mdm.decided = (multiLabel) => (multiLabel ? "each label is decided by its own score" : "the highest score wins");

/* A prototype in words. */
Mdm.named = (prototype) => {
  const name = Mdm.className(Mdm.prototypes[prototype].class);
  return `prototype ${Mdm.prototypes[prototype].number}${name ? ` of ${Mdm.quoted(name)}` : ""}`;
};
