// Which entries are shown, in which order.
"use strict";

/* What can be sorted and filtered by: a key, its title, and its value for an entry (NaN where it has none). */
Mdm.quantities = () => {
  const { run, other } = Mdm.reference();
  return run.numbers
    .filter(({ key, node }) => !other || Mdm.number(other, key, node))
    .map(({ key, title, kind, values, node }) => {
      const against = other ? Mdm.number(other, key, node).values : null;
      return { key, title, kind, of: against ? (entry) => values[entry] - against[entry] : (entry) => values[entry] };
    });
};

const texts = new Map();
/* What the search looks through: name, true class, and for each run prediction, status and reason. */
function haystack(entry) {
  if (!texts.has(entry)) {
    const words = [Mdm.id(entry), Mdm.label(entry)];
    for (const run of Mdm.runs) {
      words.push(Mdm.className(run, run.prediction[entry]), Mdm.status(run, entry), run.reasons[entry] ?? "");
      words.push(run.frame.reasons[Mdm.image[entry]] ?? "");
    }
    texts.set(entry, words.join("\n").toLowerCase());
  }
  return texts.get(entry);
}

/* Entries that pass every filter, ascending; `without` leaves one filter out, to count what it could choose. */
Mdm.matching = (without = "") => {
  const state = { ...Mdm.state, [without]: Mdm.DEFAULTS[without] };
  const { run } = Mdm.reference();
  const tests = [];
  if (state.label) tests.push((e) => Mdm.label(e) === state.label);
  if (state.pred) tests.push((e) => run.prediction[e] >= 0 && Mdm.className(run, run.prediction[e]) === state.pred);
  if (state.right) tests.push((e) => Mdm.right(run, e) === (state.right === "right"));
  if (state.status) tests.push((e) => (Mdm.status(run, e) || "NOT IN RUN") === state.status);
  if (state.given) tests.push((e) => Mdm.anyGivenUp(e) === (state.given === "only"));
  const quantities = Mdm.quantities();
  for (const { key, low, high } of state.where) {
    const quantity = quantities.find((each) => each.key === key);
    // values are kept in 32 bits: 0.3 must not lie above "to 0.3"
    const [from, to] = [low === null ? -Infinity : low - 1e-6 * Math.abs(low), high === null ? Infinity : high + 1e-6 * Math.abs(high)];
    if (quantity) tests.push((e) => quantity.of(e) >= from && quantity.of(e) <= to);
  }
  for (const word of state.q.toLowerCase().split(/\s+/).filter(Boolean)) tests.push((e) => haystack(e).includes(word));
  const found = [];
  for (let entry = 0; entry < Mdm.count; entry++) if (tests.every((test) => test(entry))) found.push(entry);
  return found;
};

const collator = new Intl.Collator(undefined, { numeric: true });

Mdm.sorted = (entries) => {
  const { sort, desc } = Mdm.state;
  const { run } = Mdm.reference();
  const sign = desc ? -1 : 1;
  const byText = {
    id: Mdm.id,
    label: Mdm.label,
    pred: (e) => Mdm.className(run, run.prediction[e]),
    target: (e) => Mdm.className(run, run.target[e]),
    status: (e) => Mdm.status(run, e),
  }[sort];
  if (byText) {
    const keys = new Map(entries.map((e) => [e, byText(e)]));
    const missing = (text) => (text === "" ? 1 : 0); // last in either direction
    return entries.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      return missing(x) - missing(y) || sign * collator.compare(x, y) || a - b;
    });
  }
  const quantity = Mdm.quantities().find((each) => each.key === sort);
  if (!quantity) return desc ? entries.reverse() : entries;
  return entries.sort((a, b) => {
    const [x, y] = [quantity.of(a), quantity.of(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
    return sign * (x - y) || a - b;
  });
};

/* Texts and how many entries have each, of those that pass the other filters. */
Mdm.counts = (entries, text) => {
  const counts = new Map();
  for (const entry of entries) {
    const key = text(entry);
    if (key !== "") counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => collator.compare(a[0], b[0]));
};

/* Numbers for people. */
Mdm.show = (value, kind, signed = false) => {
  if (value === undefined || Number.isNaN(value)) return "–";
  const plus = signed && value > 0 ? "+" : "";
  if (kind === "share") {
    const percent = 100 * value;
    return `${plus}${Math.abs(percent) < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`;
  }
  if (kind === "count") return `${plus}${Math.round(value).toLocaleString("en")}`;
  const size = Math.abs(value);
  return plus + (size === 0 ? "0" : size < 1e-3 || size >= 1e5 ? value.toExponential(2) : size < 10 ? value.toFixed(3) : value.toPrecision(4));
};
