// What the page knows: the index, which is there from the start, and blocks of maps.
"use strict";

Mdm.coded = ({ names, codes }) => ({ names, codes: Mdm.integers(codes) });

/* Called by data/index.js. */
Mdm.receive = (plain) => {
  Mdm.ids = plain.ids;
  Mdm.block = plain.block;
  Mdm.notes = plain.notes;
  Mdm.useless = new Set(plain.given_up);
  Mdm.labels = Mdm.coded(plain.labels);
  Mdm.image = Mdm.integers(plain.image);
  Mdm.rank = Mdm.integers(plain.rank);
  Mdm.count = Mdm.image.length;
  Mdm.severalRanks = Mdm.rank.some((rank) => rank > 0);
  Mdm.colors = Object.fromEntries(Object.entries(plain.colors).map(([name, text]) => [name, Mdm.bytes(text)]));
  Mdm.frames = plain.frames.map((frame, number) => ({ ...frame, number, there: Mdm.bytes(frame.there) }));
  Mdm.runs = plain.runs.map((run, number) => ({
    ...run,
    number,
    frame: Mdm.frames[run.frame],
    status: Mdm.coded(run.status),
    label: Mdm.integers(run.label),
    prediction: Mdm.integers(run.prediction),
    target: Mdm.integers(run.target),
    stride: run.sizes.reduce((sum, [h, w]) => sum + 8 + h * w, 0),
    all: run.numbers.map((each) => ({ ...each, values: Mdm.floats(each.data), data: null })),
  }));
  for (const run of Mdm.runs) run.numbers = run.all.filter(({ repeats }) => !repeats); // none is shown twice
  Mdm.first = [];
  for (let entry = 0; entry < Mdm.count; entry++) {
    const block = Math.floor(Mdm.image[entry] / Mdm.block);
    if (Mdm.first[block] === undefined) Mdm.first[block] = entry;
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", Mdm.start);
  else Mdm.start();
};

Mdm.id = (entry) => Mdm.ids[Mdm.image[entry]];
Mdm.label = (entry) => Mdm.labels.names[Mdm.labels.codes[Mdm.image[entry]]];
Mdm.className = (run, number) => (number < 0 ? "" : run.classes[number] ?? String(number));
Mdm.status = (run, entry) => run.status.names[run.status.codes[entry]];
/* A number of a run; with `node` only where it is in the unit of that node, as numbers of two nodes are never compared. */
Mdm.number = (run, key, node = null) => run.numbers.find((each) => each.key === key && (node === null || each.node === node));
Mdm.value = (run, key, entry, node = null) => Mdm.number(run, key, node)?.values[entry] ?? NaN;

/* The numbers that some runs have, each once. Those of two nodes are two, side by side, and the title says of which. */
Mdm.kinds = (runs) => {
  const found = new Map();
  for (const run of runs) {
    for (const each of run.all) {
      if (!found.has(each.key)) found.set(each.key, new Map());
      if (!each.repeats && !found.get(each.key).has(each.node)) found.get(each.key).set(each.node, { ...each, of: run.node });
    }
  }
  return [...found.values()].flatMap((same) => [...same.values()].map((each) => {
    const told = same.size === 1 || each.title.includes(each.of);
    return told ? each : { ...each, title: `${each.title} (${each.of})` };
  }));
};

/* Whether an image was given up, by a run or by any that is shown: its map, if it has one, explains nothing. */
Mdm.givenUp = (run, entry) => Mdm.useless.has(Mdm.status(run, entry));
Mdm.anyGivenUp = (entry) => Mdm.shownRuns().some((run) => Mdm.givenUp(run, entry));

/* true, false, or null where the true class is not known or nothing was predicted. */
Mdm.right = (run, entry) =>
  run.label[entry] < 0 || run.prediction[entry] < 0 ? null : run.label[entry] === run.prediction[entry];

Mdm.picture = (frame, image) => {
  const folder = String(Math.floor(image / 1000)).padStart(3, "0");
  return `images/f${frame.number}/${folder}/${String(image).padStart(6, "0")}.${frame.suffix}`;
};

/* The bytes of an entry's maps, and those beside an image, as `Mdm.part` gives them. */
Mdm.mapBytes = (run, entry, then) => {
  if (run.kind === "none") return undefined;
  const image = Mdm.image[entry];
  const block = Math.floor(image / Mdm.block);
  return Mdm.part(`r${run.number}`, block, entry - Mdm.first[block], run.stride, then);
};

Mdm.besideBytes = (frame, image, then) =>
  frame.there[image] ? Mdm.part(`f${frame.number}`, Math.floor(image / Mdm.block), image % Mdm.block, frame.stride, then) : undefined;
