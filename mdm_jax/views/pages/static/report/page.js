// The page: it draws what the state says, and turns keys into changes of the state.
"use strict";

Mdm.start = () => {
  const $ = (id) => document.getElementById(id);
  const grid = new Mdm.Grid($("cards"));
  const detail = new Mdm.Detail($("detail"), grid);
  const summary = new Mdm.Summary($("summary"));
  const toolbar = new Mdm.Toolbar($("toolbar"));
  const filters = new Mdm.Filters($("filters"));
  const q = $("q");
  let order = [];

  Mdm.headHeight = () => Math.max(0, $("toolbar").getBoundingClientRect().bottom);

  const SELECTED = ["q", "label", "pred", "right", "status", "given", "where", "sort", "desc", "of"];

  /* Draw what differs from the state before; everything where there was none. */
  Mdm.draw = (old) => {
    const { state } = Mdm;
    const changed = (...keys) => !old || Mdm.changed(old, ...keys);
    if (changed("theme")) Mdm.theme(state.theme);
    if (changed("page")) {
      $("cards").hidden = state.page !== "grid";
      $("summary").hidden = state.page !== "summary";
      document.querySelectorAll("[data-page]").forEach((each) => each.setAttribute("aria-pressed", each.dataset.page === state.page));
      document.body.dataset.page = state.page;
    }
    if (q.value !== state.q) q.value = state.q;
    toolbar.update();
    const selected = changed(...SELECTED, "hide");
    if (selected) {
      order = Mdm.sorted(Mdm.matching());
      filters.update();
      const [some, all] = [order.length, Mdm.count].map((count) => count.toLocaleString("en"));
      const what = Mdm.severalRanks ? "explanations" : Mdm.count === 1 ? "image" : "images";
      const lost = order.filter(Mdm.anyGivenUp).length;
      const up = lost ? `, ${lost.toLocaleString("en")} given up` : "";
      $("count").textContent = (order.length === Mdm.count ? `${all} ${what}` : `${some} of ${all} ${what}`) + up;
      for (const key of ["csv", "figure"]) $(key).disabled = !order.length;
      $("notes").replaceChildren(...notes());
      $("notes").hidden = !$("notes").childNodes.length;
    }
    if (state.page === "grid") {
      if (selected || changed("page", "size")) {
        if (old && changed(...SELECTED) && state.open === old.open) scrollTo(0, 0);
        grid.show(order);
      } else grid.redraw();
    } else if (selected || changed("page")) {
      summary.show(order);
      grid.order = order;
    }
    if (detail.dialog.open && changed("hide", "of")) detail.entry = -1;
    detail.follow();
    if (detail.dialog.open) detail.redraw();
    document.documentElement.dataset.ready = "yes";
  };

  function notes() {
    const texts = [...Mdm.notes];
    if (!order.length) texts.push("No image passes all filters.");
    if (Mdm.state.open && Mdm.opened() < 0) texts.push(`The link opens ${Mdm.state.open}, which is not in this report.`);
    return texts.map((text) => Mdm.make("p", {}, text));
  }

  $("theme").addEventListener("click", Mdm.switchTheme);
  $("help").addEventListener("click", () => about());
  $("csv").addEventListener("click", () => Mdm.saveTable(order));
  $("figure").addEventListener("click", () => (Mdm.state.page === "summary" ? Mdm.savePlots($("summary")) : Mdm.printSheet($("sheet"), order)));
  $("skip").addEventListener("click", (event) => { event.preventDefault(); grid.focus(grid.active); });
  $("filters-toggle").addEventListener("click", () => {
    const open = document.body.classList.toggle("filtering");
    $("filters-toggle").setAttribute("aria-expanded", open);
    if (open) { scrollTo(0, 0); $("filters").querySelector("select").focus(); }
  });
  document.querySelectorAll("[data-page]").forEach((each) => each.addEventListener("click", () => Mdm.change({ page: each.dataset.page })));
  q.addEventListener("input", () => Mdm.change({ q: q.value }, true));
  addEventListener("popstate", Mdm.follow);
  addEventListener("hashchange", () => { if (Mdm.format(Mdm.parse(location.hash)) !== Mdm.format(Mdm.state)) Mdm.follow(); });

  const KEYS = [
    ["← → ↑ ↓", "move over the images; in the detail the next and previous one"], ["Enter", "open an image"], ["Esc", "close, or leave the search"],
    ["1 2 3 4", "original, overlay, masked, masks"], ["[  ]", "less, more threshold"], ["o", "outline of the object"], ["s", "summary or images"],
    ["/", "search"], ["d", "light or dark"], ["?", "this window"],
  ];

  function about() {
    const dialog = $("about");
    const rows = (pairs) => Mdm.make("table", {}, Mdm.make("tbody", {}, ...pairs.map(([key, value]) => Mdm.make("tr", {}, Mdm.make("th", { scope: "row" }, key), Mdm.make("td", {}, value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value))))));
    dialog.replaceChildren(
      Mdm.make("header", {}, Mdm.make("h2", { id: "about-title" }, "Keys and details"), Mdm.make("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      Mdm.make("div", { class: "content" },
        Mdm.make("table", { class: "keys" }, Mdm.make("tbody", {}, ...KEYS.map(([key, what]) => Mdm.make("tr", {}, Mdm.make("th", { scope: "row" }, Mdm.make("kbd", {}, key)), Mdm.make("td", {}, what))))),
        Mdm.make("p", { class: "hint" }, "What is kept is a share of the way from the node's activation on the fill to that on the image, from 0 to 100 %: with less than 50 % an image is given up as lost. Numbers in the unit of one node are never compared with those of another. Below the threshold, saliency is left out: of the overlay, and of what is seen through the mask. The address of this page holds the view: copy it to share what you see."),
        ...Mdm.runs.map((run) => Mdm.make("details", { open: Mdm.runs.length === 1 }, Mdm.make("summary", {}, Mdm.dot(run), run.name), rows([...Object.entries(run.settings), ...Object.entries(run.versions)])))),
    );
    dialog.showModal();
  }
  $("about").addEventListener("click", (event) => { if (event.target === $("about")) $("about").close(); });

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("about").open) return;
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (typing) {
      if (event.key === "Escape" && event.target === q) { Mdm.change({ q: "" }, true); q.blur(); }
      return;
    }
    const range = event.target.matches("input[type=range]");
    const views = Mdm.VIEWS.map(([view]) => view);
    const { threshold, truth, page } = Mdm.state;
    const keys = {
      "/": () => { if (!detail.dialog.open) q.focus(); },
      "?": about,
      d: Mdm.switchTheme,
      o: () => Mdm.change({ truth: 1 - truth }),
      s: () => { if (!detail.dialog.open) Mdm.change({ page: page === "grid" ? "summary" : "grid" }); },
      "[": () => Mdm.change({ threshold: Math.max(0, threshold - 5) }, true),
      "]": () => Mdm.change({ threshold: Math.min(100, threshold + 5) }, true),
    };
    if (/^[1-4]$/.test(event.key)) Mdm.change({ view: views[event.key - 1] });
    else if (event.key in keys) keys[event.key]();
    else if (detail.dialog.open && !range && ["ArrowLeft", "ArrowRight"].includes(event.key)) detail.step(event.key === "ArrowRight" ? 1 : -1);
    else if (detail.dialog.open || range || page !== "grid" || !grid.key(event)) return;
    event.preventDefault();
  });

  Mdm.state = Mdm.parse(location.hash);
  Mdm.draw(null);
};
