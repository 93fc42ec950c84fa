// The page: it draws what the state says, and turns keys into changes of the state.
"use strict";

Mdm.start = () => {
  const $ = (id) => document.getElementById(id);
  const make = Mdm.make;
  const decisions = new Mdm.Decisions($("decisions"));
  const wall = new Mdm.Wall($("prototypes"));
  const detail = new Mdm.Detail($("detail"), wall);
  const share = make("input", { type: "range", min: 1, max: 50, step: 1, id: "share", oninput: () => Mdm.change({ share: Number(share.value) }, true) });
  const label = make("select", { id: "label", onchange: () => Mdm.change({ label: label.value }) },
    make("option", { value: "" }, "all classes"), ...[...new Set(Mdm.prototypes.map((each) => Mdm.className(each.class)))].filter(Boolean).map((name) => make("option", { value: name }, name)));
  const segments = (name, key, choices) => make("div", { class: "segments", role: "group", "aria-label": name },
    ...choices.map(([value, text, title]) => make("button", { type: "button", [`data-${key}`]: value, title, onclick: () => Mdm.change({ [key]: value }) }, text)));
  $("toolbar").append(
    segments("Region", "region", Mdm.regions.map(({ key, title, about }, n) => [key, title, `${about} (${n + 1})`])),
    segments("Show", "look", Mdm.LOOKS.map(([look, text]) => [look, text, `${text} (v)`])),
    make("label", { class: "slider", for: "share", title: "How much of the image lies within an outline ([ and ])" }, make("span", {}, "Strongest"), share, make("output", { id: "share-of" })),
    make("label", { class: "field", for: "label", id: "label-of" }, make("span", {}, "Class"), label));
  $("notes").append(...Mdm.notes.map((text) => make("p", {}, text)));
  $("notes").hidden = !Mdm.notes.length;

  /* Draw what the state says; what it is drawn with keeps what has not changed. */
  Mdm.draw = () => {
    const { state } = Mdm;
    Mdm.theme(state.theme);
    for (const page of ["decisions", "prototypes"]) $(page).hidden = state.page !== page;
    document.body.dataset.page = state.page;
    const pressed = { page: state.page, look: state.look, region: Mdm.region()?.key };
    for (const [key, value] of Object.entries(pressed)) {
      document.querySelectorAll(`button[data-${key}]`).forEach((each) => each.setAttribute("aria-pressed", each.dataset[key] === value));
    }
    share.value = state.share;
    $("share-of").textContent = `${state.share} %`;
    share.closest("label").hidden = state.look !== "outline";
    label.value = state.label;
    $("label-of").hidden = state.page !== "prototypes";
    (state.page === "decisions" ? decisions : wall).draw();
    detail.draw();
    document.documentElement.dataset.ready = "yes";
  };

  const KEYS = [
    ["← →", "the next or previous image, or prototype"], ["Enter", "open a prototype"], ["Esc", "close"], ["p", "decisions or prototypes"],
    [`1 … ${Mdm.regions.length}`, "how regions are found"], ["v", "outline, heat, image"], ["[  ]", "a smaller, larger outline"], ["d", "light or dark"], ["?", "this window"],
  ];

  function showHelp() {
    const dialog = $("about");
    const rows = (pairs) => make("table", {}, make("tbody", {}, ...pairs.map(([key, value]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, String(value))))));
    dialog.replaceChildren(
      make("header", {}, make("h2", { id: "about-title" }, "How to read this page"), make("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      make("div", { class: "content" },
        make("p", {}, "The network has learned prototypes: parts of training images. For a new image it asks of each prototype how alike its most similar part is, multiplies that by a weight, and adds up to a score for each class: ", Mdm.decided(Mdm.decisions.some(({ multiLabel }) => multiLabel)), "."),
        make("p", {}, "Where that part lies in an image is found in one of these ways:"),
        rows(Mdm.regions.map(({ title, about }) => [title, about])),
        make("table", { class: "keys" }, make("tbody", {}, ...KEYS.map(([key, what]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, key)), make("td", {}, what))))),
        make("details", {}, make("summary", {}, "How this was made"), rows(Object.entries(Mdm.settings)))));
    dialog.showModal();
  }

  const press = (key, by) => {
    const choices = key === "look" ? Mdm.LOOKS.map(([look]) => look) : ["decisions", "prototypes"];
    Mdm.change({ [key]: choices[(choices.indexOf(Mdm.state[key]) + by) % choices.length] });
  };

  $("theme").addEventListener("click", Mdm.switchTheme);
  $("help").addEventListener("click", showHelp);
  $("about").addEventListener("click", (event) => { if (event.target === $("about")) $("about").close(); });
  document.querySelectorAll("button[data-page]").forEach((each) => each.addEventListener("click", () => Mdm.change({ page: each.dataset.page })));
  addEventListener("popstate", Mdm.follow);
  addEventListener("hashchange", () => { if (Mdm.format(Mdm.parse(location.hash)) !== Mdm.format(Mdm.state)) Mdm.follow(); });

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("about").open || event.target.matches("select")) return;
    const range = event.target.matches("input[type=range]");
    const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const keys = {
      "?": showHelp,
      d: Mdm.switchTheme,
      v: () => press("look", 1),
      p: () => { if (!detail.dialog.open) press("page", 1); },
      "[": () => Mdm.change({ share: Math.max(1, Mdm.state.share - 1) }, true),
      "]": () => Mdm.change({ share: Math.min(50, Mdm.state.share + 1) }, true),
    };
    const region = Mdm.regions[Number(event.key) - 1];
    if (/^[1-9]$/.test(event.key) && region) Mdm.change({ region: region.key });
    else if (event.key in keys) keys[event.key]();
    else if (arrow && !range && detail.dialog.open) detail.step(arrow);
    else if (arrow && !range && Mdm.state.page === "decisions") decisions.step(arrow);
    else if (range || detail.dialog.open || Mdm.state.page !== "prototypes" || !wall.key(event)) return;
    event.preventDefault();
  });

  Mdm.state = Mdm.parse(location.hash);
  Mdm.draw(null);
};
