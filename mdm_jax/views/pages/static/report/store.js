// What the page knows: the index, which is there from the start, and blocks of maps.
"use strict";

Mdm.coded = ({ names, codes }) => ({ names, codes: Mdm.integers(codes) });

/* Called by data/index.js. */
Mdm.receive = (plain) => {
  Mdm.ids = plain.ids;
  Mdm.block = plain.block;
  Mdm.notes = plain.notes;
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
    numbers: run.numbers.map((each) => ({ ...each, values: Mdm.floats(each.data), data: null })),
  }));
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
Mdm.number = (run, key) => run.numbers.find((each) => each.key === key);
Mdm.value = (run, key, entry) => Mdm.number(run, key)?.values[entry] ?? NaN;

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
