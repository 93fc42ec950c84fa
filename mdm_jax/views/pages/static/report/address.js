// Changes of the view, which lives in the address, and light or dark. A page says how its state is written: `Mdm.parse`, `Mdm.format`.
"use strict";

/* Change the view. Choices can be gone back from; sliders and typing replace the address (`quietly`). */
Mdm.change = (some, quietly = false) => {
  const before = Mdm.format(Mdm.state);
  const old = Mdm.state;
  Mdm.state = { ...Mdm.state, ...some };
  const after = Mdm.format(Mdm.state);
  if (after === before) return;
  if (quietly) later(after);
  else {
    cancel();
    history.pushState(null, "", after);
  }
  Mdm.draw(old);
};

/* Browsers allow few changes of the address a second: of many quick ones, the last is written. */
let waiting = 0;
const cancel = () => { clearTimeout(waiting); waiting = 0; };
function later(address) {
  cancel();
  waiting = setTimeout(() => { waiting = 0; history.replaceState(null, "", address); }, 150);
}

Mdm.follow = () => {
  cancel();
  const old = Mdm.state;
  Mdm.state = Mdm.parse(location.hash);
  Mdm.draw(old);
};

Mdm.changed = (old, ...keys) => keys.some((key) => JSON.stringify(old[key]) !== JSON.stringify(Mdm.state[key]));

/* Light or dark as it was chosen, else as the system has it. */
Mdm.theme = (chosen) => {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
};
const dark = () => (Mdm.state.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
Mdm.switchTheme = () => Mdm.change({ theme: dark() ? "light" : "dark" }, true);
