"""Reasoning, its figure and its page: numbers add up, regions are drawn where they are, and nothing
overlaps or escapes."""

from __future__ import annotations

import itertools
import json
import urllib.parse

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_report import ASKING, CHROMIUM, HOSTILE, dumped, harmless, index_of

from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Example
from mdm_jax.errors import InputError
from mdm_jax.models.architectures import build
from mdm_jax.models.classifier import Classifier
from mdm_jax.progress import NullProgress
from mdm_jax.prototypes import tables
from mdm_jax.prototypes.image_sets import TEST, TRAIN, ImageRef, ImageSets, Pair
from mdm_jax.prototypes.reasoning import (
    Contribution,
    Reasoning,
    RoundedSum,
    explain_decision,
    explain_decisions,
    round_sum,
)
from mdm_jax.prototypes.region_store import RegionStore
from mdm_jax.prototypes.retained_similarity import measure_similarities
from mdm_jax.prototypes.search import activations
from mdm_jax.prototypes.survey import (
    Decision,
    Prototype,
    Survey,
    survey_decisions,
)
from mdm_jax.types import Explanation, Info
from mdm_jax.views import outline, prototype_figures
from mdm_jax.views.pages import prototype_page

SIDE = 16
NAMES = ("<b>cat</b>, tabby", "a black-footed albatross of the southern oceans", "7")
SEEN = Preprocessing(3, (SIDE, SIDE), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)


def built(family="protopnet", **arguments):
    given = {
        "backbone_arguments": {"widths": (4, 8), "depths": (1, 1)},
        "prototypes_per_class": 2,
        "width": 6,
    } | arguments
    network = build(family, num_classes=3, size=(SIDE, SIDE), rngs=nnx.Rngs(0), **given)
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.fixture(scope="module")
def classifier():
    return Classifier(built(), "tiny <i>net</i>", NAMES, SEEN)


class Squares:
    """A source of bright squares; item 2 cannot be read, item 3 has a hostile name and no known
    class."""

    name, class_names = "squares", NAMES

    def __init__(self, part):
        self.part = part

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 2:
            raise InputError("square 2 is damaged <script>alert(1)</script>")
        image = np.full((SIDE, SIDE, 3), 0.2, np.float32)
        image[4:8, index : index + 4] = (1.0, 0.8, 0.1)
        return Example(
            HOSTILE if index == 3 else f"{self.part}{index}",
            image,
            -1 if index == 3 else index % 3,
            None,
            None,
        )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 1, (3, SIDE, SIDE, 3)).astype(np.float32)


class Given(nnx.Module):
    """A network of given similarities, whose last layer has a bias; its logits are off by
    `error`."""

    def __init__(self, similarities, weights, bias, error=0.0):
        self.similarities, self.error = nnx.Param(jnp.asarray(similarities)), error
        self.last_layer = nnx.Linear(*np.shape(weights), rngs=nnx.Rngs(0))
        self.last_layer.kernel, self.last_layer.bias = (
            nnx.Param(jnp.asarray(weights)),
            nnx.Param(jnp.asarray(bias)),
        )

    def __call__(self, images):
        s = (
            jnp.broadcast_to(
                self.similarities[...], (len(images), *self.similarities.shape)
            )
            + 0.0 * images.mean()
        )
        return self.last_layer(s) + self.error, {"similarities": s, "distances": -s}


def given(*arguments, **more):
    return Classifier(Given(*arguments, **more), "given", ("a", "b"), SEEN)


def test_a_logit_is_taken_apart_as_by_hand(images):
    weights = [[2.0, -0.5], [0.25, 1.0], [-1.0, 0.0]]
    network = given([1.0, 4.0, 0.5], weights, [0.5, -1.5])
    one = explain_decision(network, images[0])
    assert (one.target, one.prediction) == (0, 0)  # 3.0 against 2.0
    first = explain_decision(network, images[0], target=0)
    np.testing.assert_allclose(first.contributions, [2.0, 1.0, -0.5])
    assert first.logit == pytest.approx(3.0)
    assert first.bias == 0.5
    assert first.first(2) == [0, 1]
    assert round_sum(first, 1) == RoundedSum(
        (Contribution(0, 1.0, 2.0, 2.0),), 0.5, 2, 0.5, 3.0
    )


@pytest.mark.slow
def test_every_class_of_a_network_is_the_sum_of_its_prototypes(classifier, images):
    for target in range(3):
        for one in explain_decisions(classifier, images, [target] * 3):
            assert one.target == target
            np.testing.assert_allclose(
                one.contributions.sum(), one.logit, rtol=1e-4, atol=1e-4
            )
    assert [one.target for one in explain_decisions(classifier, images)] == [
        one.prediction for one in explain_decisions(classifier, images)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_adds_up_to_the_last_digit(seed):
    random = np.random.default_rng(seed)
    similarities, weights = random.normal(0, 3, (2, 40)).astype(np.float32)
    total = np.float32(similarities @ weights)
    told = round_sum(
        Reasoning(0, 0, np.asarray([total, 0], np.float32), similarities, weights), 6
    )
    texts = [prototype_figures.format_signed(row.points) for row in told.rows] + [
        prototype_figures.format_signed(told.others)
    ]
    cents = [
        round(100 * float(text.replace(prototype_figures.MINUS, "-")))
        for text in [*texts, prototype_figures.format_number(told.total)]
    ]
    assert sum(cents[:-1]) == cents[-1]
    assert told.total == round(float(total), 2)
    assert [row.points for row in told.rows] == sorted(
        (row.points for row in told.rows), reverse=True
    )
    assert told.rest == 34


def test_what_has_no_prototypes_or_does_not_add_up_is_said(classifier, images, tiny):
    with pytest.raises(InputError, match="has no prototypes"):
        explain_decision(Classifier(tiny, "plain", ("a", "b", "c"), SEEN), images[0])
    with pytest.raises(InputError, match="add up to 2, its logit is 3"):
        explain_decision(given([1.0], [[2.0, 1.0]], [0.0, 0.0], error=1.0), images[0])
    with pytest.raises(InputError, match="NaN or infinite"):
        explain_decision(given([1.0], [[np.nan, 1.0]], [0.0, 0.0]), images[0], target=1)
    with pytest.raises(InputError, match="targets are \\[3\\]"):
        explain_decision(classifier, images[0], target=3)


def test_an_outline_holds_its_share_and_a_box_is_whole():
    slope = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    for share in (0.05, 0.1, 0.5):
        assert (slope > outline.threshold(slope, share)).mean() == pytest.approx(
            share, abs=0.005
        )
    box = np.zeros((20, 20), np.float32)
    box[5:15, 5:15] = 1.0
    assert (
        box > outline.threshold(box, 0.1)
    ).sum() == 100  # more than the share, but it cannot be cut
    assert (
        box > outline.threshold(box, 0.9)
    ).sum() == 100  # less than the share, but nothing else is above the rest
    assert (outline.smooth(box) == box).all()
    assert outline.threshold(np.full((4, 4), 0.3, np.float32), 0.1) is None
    assert outline.threshold(np.full((4, 4), np.nan, np.float32), 0.1) is None


def test_outside_its_region_a_picture_is_dimmed():
    region = np.zeros((SIDE, SIDE), np.float32)
    region[:4] = 1.0
    picture = np.broadcast_to(np.float32([1.0, 0.0, 0.0]), (SIDE, SIDE, 3))
    seen = outline.dim_outside(picture, region, 0.1)
    assert (seen[:4] == picture[:4]).all()
    assert (np.abs(seen[4:] - picture[4:]).max(-1) > 0.1).all()
    assert (outline.dim_outside(picture, np.zeros_like(region), 0.1) == picture).all()


def looks(count):
    random = np.random.default_rng(1)
    image = random.uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    rows = tuple(
        Contribution(
            n, 9.21 - n, (-1) ** n * 12.34, round((9.21 - n) * (-1) ** n * 12.34, 2)
        )
        for n in range(count)
    )
    others = round(-123.45 - sum(row.points for row in rows), 2)
    map_ = random.uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
    shown = [
        prototype_figures.LookAlike(
            row, NAMES[row.prototype % 3], map_, image, map_, NAMES[1]
        )
        for row in rows
    ]
    return (
        image,
        shown,
        RoundedSum(rows, others, 1990, 0.25 if count == 1 else 0.0, -123.45),
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5, 12])
def test_no_text_of_the_figure_overlaps_or_leaves_it(count):
    image, shown, total = looks(count)
    shown[0] = shown[0]._replace(source=None, there=None)
    drawn = prototype_figures.this_looks_like_that(
        image,
        shown,
        total,
        prototype_figures.Verdict(NAMES[1], NAMES[0], rival=(NAMES[1], -234.56)),
        how="the activation map",
    )
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [
        text
        for text in [*drawn.texts, *(text for ax in drawn.axes for text in ax.texts)]
        if text.get_text()
    ]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for (a, one), (b, other) in itertools.combinations(zip(texts, boxes), 2):
        assert not one.overlaps(other), (a.get_text(), b.get_text())
    for text, box in zip(texts, boxes):
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= drawn.bbox.x1, text
        assert box.y1 <= drawn.bbox.y1, text
    said = [text.get_text() for text in texts]
    assert (
        said[0] == "This looks like that: why the network says “a black-footed albatross…”"
    )
    assert "1990 other prototypes together" in said
    assert "no picture" in said
    assert ("bias of the class" in said) == bool(total.bias)
    for row in total.rows:
        assert prototype_figures.format_signed(row.points) in said
    assert said.count(prototype_figures.UNLIKE) == sum(
        row.similarity < 0 for row in total.rows
    )


def explanation(maps, similarity):
    n = len(maps)
    zeros, counts = np.zeros(n, np.float32), np.zeros(n, np.int32)
    numbers = [
        np.full(n, similarity, np.float32),
        zeros,
        zeros,
        zeros,
        zeros,
        {},
        counts,
        counts,
        counts,
        counts,
    ]
    return Explanation(maps, (), Info(counts, *numbers))


@pytest.fixture(scope="module")
def survey(classifier, tmp_path_factory):
    """Prototypes 0 and 1 are of squares, 2 of a square that cannot be read, 3 of none; maps are
    known."""
    out = tmp_path_factory.mktemp("survey")
    album = ImageSets({TRAIN: Squares("train"), TEST: Squares("test")}, classifier)
    sources = [
        Pair(ImageRef(TRAIN, 0), 0),
        Pair(ImageRef(TRAIN, 3), 1),
        Pair(ImageRef(TRAIN, 2), 2),
        None,
        None,
        None,
    ]
    found = tuple(
        Prototype(
            n,
            n // 2,
            1.0,
            source,
            (1, 2),
            0.1,
            (Pair(ImageRef(TRAIN, 4), n),) if n < 2 else (),
            "" if source else "dead",
        )
        for n, source in enumerate(sources)
    )
    decisions, notes = survey_decisions(
        classifier,
        album,
        [ImageRef(TEST, n) for n in range(4)],
        rows=2,
        progress=NullProgress(),
    )
    kept = {name: RegionStore(out, name, {}) for name in ("mdm", "activation_map")}
    shown = Survey(classifier, album, found, decisions, kept, (*notes, "a note <b>"))
    pairs = [pair for pair in shown.pairs if pair.item.number != 2]
    maps = np.zeros((len(pairs), SIDE, SIDE), np.float32)
    for n, map_ in enumerate(maps):
        map_[:] = np.add.outer(np.arange(SIDE), (n + 1) * np.arange(SIDE))
        map_ /= map_.max()
    for name in kept:
        left = {"similarity": 2.0, "retained": 1.0, "blurred": 0.5}
        left = {
            each: np.full(len(pairs), value, np.float32) for each, value in left.items()
        }
        kept[name].add(
            pairs, explanation(maps, 1e-7 if name == "mdm" else 2.0), left
        )  # the distance is MDM's activation
    return out, shown, pairs, maps


def test_an_image_that_cannot_be_read_is_left_out_with_a_note(survey):
    _, shown, _, _ = survey
    assert [each.item.number for each in shown.decisions] == [0, 1, 3]
    assert shown.decisions[2].classes is None
    assert "square 2 is damaged" in shown.notes[0]


def test_kept_regions_are_found_again_and_only_missing_ones_are_asked_for(survey):
    out, _, pairs, maps = survey
    again = RegionStore(out, "mdm", {})
    assert again.missing(
        [*pairs, Pair(ImageRef(TEST, 5), 0), Pair(ImageRef(TEST, 5), 0)]
    ) == [Pair(ImageRef(TEST, 5), 0)]
    found = list(again.maps([pairs[3], Pair(ImageRef(TEST, 5), 0)]))
    np.testing.assert_allclose(found[0], maps[3], atol=1e-3)
    assert found[1] is None
    with pytest.raises(InputError, match="made with other settings"):
        RegionStore(out, "mdm", {"seed": 1})


def test_tables_tell_prototypes_decisions_and_regions(survey):
    import pyarrow.parquet as pq

    out, shown, pairs, _ = survey
    files = tables.write_tables(shown, out)
    told = json.loads(files[0].read_text())
    assert [each["class_name"] for each in told["prototypes"][:3]] == [
        NAMES[0],
        NAMES[0],
        NAMES[1],
    ]
    assert told["prototypes"][0]["source"] == {"item": 0, "id": "train0", "similarity": 2.0}
    assert told["prototypes"][3]["source"] is None
    for each, decision in zip(told["decisions"], shown.decisions):
        assert (
            round(sum(row["points"] for row in each["rows"]) + each["others"], 2)
            == each["total"]
        )
        assert each["logit"] == pytest.approx(decision.reasoning.logit)
    table = pq.read_table(files[1])
    assert table.num_rows == 2 * len(pairs)
    assert {"region", "id", "prototype", "retained", "box_x0", "status"} <= set(
        table.column_names
    )
    nodes = set(zip(table["region"].to_pylist(), table["node"].to_pylist()))
    assert nodes == {("mdm", "distance"), ("activation_map", "similarity")}
    assert set(table["similarity"].to_pylist()) == {2.0}


def test_a_share_of_the_similarity_is_told_only_where_there_is_some(survey, tmp_path):
    _, _, pairs, maps = survey
    kept = RegionStore(tmp_path, "mdm", {})
    whole = np.linspace(-1.0, 1.0, len(pairs), dtype=np.float32)
    kept.add(
        pairs,
        explanation(maps, 0.1),
        {"similarity": whole, "retained": whole / 2, "blurred": 0 * whole},
    )
    told = prototype_page._region("mdm", kept, pairs)
    assert told["kept"] == [0.5 if each > 0 else None for each in whole]
    assert "distance to the prototype" in told["about"]


def test_the_similarity_of_the_whole_image_is_kept_with_what_is_left(classifier, images):
    prototypes = np.asarray([4, 0, 2])
    left = measure_similarities(
        classifier, images, np.zeros((3, SIDE, SIDE), np.float32), prototypes
    )
    np.testing.assert_allclose(
        left["similarity"],
        activations(classifier, images).similarities[np.arange(3), prototypes],
        1e-5,
    )
    assert (left["similarity"] != left["blurred"]).all()


class Several(Squares):
    """The same squares, each with two labels."""

    def __getitem__(self, index):
        return super().__getitem__(index)._replace(labels=np.asarray([1, 0, 1], np.float32))


def test_labels_that_are_decided_one_by_one_have_no_rival(classifier, tmp_path):
    album = ImageSets({TRAIN: Several("train"), TEST: Several("test")}, classifier)
    progress = NullProgress()
    decisions, _ = survey_decisions(
        classifier, album, [ImageRef(TEST, 0)], rows=2, progress=progress
    )
    assert decisions[0].classes == (0, 2)
    assert decisions[0].rival is None
    rows = [Prototype(n, n // 2, 1.0, None, None, None, ()) for n in range(6)]
    prototype_page.write_page(
        Survey(classifier, album, tuple(rows), decisions, {}, ()),
        tmp_path,
        share=0.1,
        settings={},
        progress=progress,
    )
    assert index_of(tmp_path)["decisions"][0]["multiLabel"] is True
    image, rows, total = looks(2)
    drawn = prototype_figures.this_looks_like_that(
        image, rows, total, prototype_figures.Verdict(NAMES[1], multi_label=True)
    )
    texts = " ".join(text.get_text() for text in drawn.texts)
    assert "Each label is decided by its own score." in texts
    assert "highest" not in texts


PROBE = """
"use strict";
// Goes through the page as a person would, and writes down what it finds.
(async () => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const key = async (key, target = document.body) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await wait(250);
  };
  const go = async (hash) => { location.hash = hash; await wait(300); };
  const texts = (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent);
  const pressed = (name) => document.querySelector(`button[data-${name}][aria-pressed="true"]`).dataset[name];
  const found = { errors: [] };
  addEventListener("error", (event) => found.errors.push(event.message));
  while (!document.documentElement.dataset.ready) await wait(20);
  await wait(400);
  found.title = document.querySelector(".decision h2").textContent;
  found.decided = [texts(".decision header p")[0], Mdm.decided(true), Mdm.decided(false)];
  const looks = [...document.querySelectorAll(".look:not(.names):not(.rest):not(.total)")];
  found.rows = looks.map((row) => [...row.querySelectorAll(".number")].map((each) => each.textContent));
  found.rest = texts(".rest .number");
  found.total = texts(".total .number");
  found.borders = document.querySelectorAll(".looks .tile path.border").length;
  found.whole = document.querySelectorAll(".whole path.border").length;
  found.missing = texts(".looks .note strong").length;
  // an outline holds its share of the cells
  const map = Mdm.map(Mdm.regions[0], 0);
  found.cells = [...map.cells];
  const points = (part) => part.slice(1).split("L").map((each) => each.split(" ").map(Number));
  const lines = (path) => path.split("Z").filter(Boolean).map(points);
  const within = (line) => Math.abs(line.reduce((sum, [x, y], k) => {
    const [a, b] = line[(k + 1) % line.length];
    return sum + x * b - a * y;
  }, 0)) / 2;
  const area = (path) => lines(path).map(within).reduce((a, b) => a + b, 0);
  const bordered = (map, share) => area(Mdm.border(map, Mdm.level(map, share)));
  found.areas = [0.1, 0.3].map((share) => bordered(map, share) / map.cells.length);
  const box = { h: 8, w: 8, cells: new Uint8Array(64) };
  for (const y of [2, 3, 4, 5]) for (const x of [2, 3, 4, 5]) box.cells[8 * y + x] = 255;
  found.box = bordered(Mdm.smooth(box), 0.05);
  const corner = { h: 8, w: 8, cells: new Uint8Array(64) };
  for (const y of [0, 1]) for (const x of [0, 1]) corner.cells[8 * y + x] = 255;
  found.corner = bordered(corner, 0.05);
  await key("2");
  found.region = pressed("region");
  found.boxes = document.querySelectorAll(".looks rect.border").length;
  await key("v");
  found.look = [pressed("look"), document.querySelectorAll(".looks canvas").length];
  await key("v");
  found.plain = document.querySelectorAll(".looks .layer").length;
  await key("ArrowRight");
  await key("ArrowRight");
  const chosen = document.querySelector(".thumb[aria-selected=true]");
  found.next = [location.hash, document.querySelector(".decision .id").textContent, chosen.dataset.image];
  await key("ArrowRight");
  found.last = location.hash;
  await key("p");
  found.cards = texts("#prototypes [data-prototype]");
  await go("#page=prototypes&label=" + encodeURIComponent("%NAME%"));
  found.filtered = texts("#prototypes [data-prototype] > span");
  await go("#page=prototypes");
  await key("ArrowRight");
  await key("ArrowRight", document.activeElement);
  found.active = document.activeElement.dataset.prototype;
  document.activeElement.click();
  await wait(300);
  const detail = document.getElementById("detail");
  found.opened = [detail.open, document.getElementById("detail-title").textContent, texts("#detail figcaption strong")];
  found.kept = texts("#detail .kept");
  found.captions = texts("#detail figcaption span");
  await key("ArrowRight");
  found.unread = texts("#detail .note strong");
  await key("ArrowRight");
  found.none = texts("#detail .name p");
  detail.dispatchEvent(new Event("cancel", { cancelable: true }));
  await wait(250);
  found.closed = detail.open;
  await key("?");
  const about = document.getElementById("about");
  found.about = [about.open, about.textContent.includes("multiplies that by a weight")];
  about.close();
  await key("d");
  found.theme = document.documentElement.dataset.theme;
  await go("#page=nowhere&image=99&open=77&region=none&share=abc&look=x");
  found.nonsense = texts(".decision h2").length;
  const output = document.createElement("pre");
  output.id = "probe";
  output.textContent = JSON.stringify(found);
  document.body.append(output);
})();
"""


@pytest.fixture(scope="module")
def written_page(survey):
    out, shown, _, _ = survey
    path = prototype_page.write_page(
        shown,
        out,
        share=0.1,
        settings={"data": "<i>"},
        progress=NullProgress(),
    )
    return path, shown


def test_the_page_tells_what_was_found(written_page, survey):
    index = index_of(written_page[0].parent)
    shown = survey[1]
    assert index["classes"] == list(NAMES)
    assert [each["key"] for each in index["regions"]] == ["mdm", "activation_map"]
    assert len(index["pairs"]) == len(shown.pairs)
    for told, decision in zip(index["decisions"], shown.decisions):
        assert [row["prototype"] for row in told["rows"]] == [
            row.prototype for row in decision.sum.rows
        ]
        assert index["images"][told["image"]]["id"] == decision.id
        for row in told["rows"]:
            assert index["pairs"][row["pair"]]["image"] == told["image"]
    unread = index["images"][index["pairs"][index["prototypes"][2]["source"]]["image"]]
    assert "square 2 is damaged" in unread["missing"]
    files = sorted(path.name for path in (written_page[0].parent / "images").iterdir())
    assert len(files) == sum("missing" not in each for each in index["images"])


def test_nothing_in_the_folder_asks_for_anything_elsewhere(written_page):
    for path in written_page[0].parent.rglob("*"):
        if path.suffix in {".html", ".css", ".js"}:
            text = path.read_text().replace(
                "http://www.w3.org/2000/svg", ""
            )  # a name, which is not asked for
            assert not [word for word in ASKING if word in text]
    assert "default-src 'none'" in written_page[0].read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_works_in_a_browser(written_page, survey, tmp_path):
    path, shown = written_page
    maps = survey[3]
    probe = path.with_name("probe.html")
    probe.write_text(
        path.read_text().replace(
            "</head>", '<script src="assets/probe.js" defer></script></head>'
        )
    )
    (path.parent / "assets" / "probe.js").write_text(PROBE.replace("%NAME%", NAMES[1]))
    elements = dumped(probe, tmp_path)
    probe.unlink()
    (path.parent / "assets" / "probe.js").unlink()
    found = json.loads(elements.texts["probe"])
    first = shown.decisions[0]
    assert found["errors"] == []
    assert found["title"] == f"Why the network says “{NAMES[first.reasoning.target]}”"
    numbers = [
        [
            prototype_figures.format_number(row.similarity),
            prototype_figures.format_number(row.weight),
            prototype_figures.format_signed(row.points),
        ]
        for row in first.sum.rows
    ]
    assert found["decided"][0].endswith(f"add up to the score; {found['decided'][2]}.")
    assert found["decided"][1:] == [
        "each label is decided by its own score",
        "the highest score wins",
    ]
    assert found["rows"] == numbers
    assert found["rest"] == [prototype_figures.format_signed(first.sum.others)]
    assert found["total"] == [prototype_figures.format_number(first.sum.total)]
    readable = sum(
        shown.prototypes[row.prototype].source in survey[2] for row in first.sum.rows
    )
    assert found["borders"] == 2 + readable
    assert found["whole"] == 2
    assert found["missing"] == 2 - readable
    np.testing.assert_allclose(
        np.reshape(found["cells"], (SIDE, SIDE)) / 255, maps[0], atol=0.003
    )
    np.testing.assert_allclose(found["areas"], [0.1, 0.3], atol=0.03)
    assert found["box"] == pytest.approx(16, abs=1.0)  # corners are cut
    assert found["corner"] == pytest.approx(
        4, abs=0.5
    )  # closed along the edge of the image
    assert found["region"] == "activation_map"
    assert found["boxes"] == 2 + readable
    assert found["look"] == ["heat", 2 + readable]
    assert found["plain"] == 0
    assert found["next"][1:] == [HOSTILE, "2"]
    assert "image=2" in found["next"][0]
    assert found["last"] == found["next"][0]
    assert len(found["cards"]) == 6
    assert "dead" in found["cards"][3]
    assert found["filtered"] == ["prototype 2", "prototype 3"]
    assert found["active"] == "1"
    assert found["opened"][:2] == [True, f"Prototype 1 of “{NAMES[0]}”"]
    assert "MDM" in found["opened"][2]
    assert "blurred altogether it keeps 25 % of the similarity" in found["captions"]
    assert "similarity 2.00" in found["opened"][2]
    assert found["kept"] == ["its strongest 10 % keep 50 % of the similarity"] * 2
    assert set(found["unread"]) == {"No picture"}
    assert found["none"] == ["dead"]
    assert found["closed"] is False
    assert found["about"] == [True, True]
    assert found["theme"] == "dark"
    assert found["nonsense"] == 1
    harmless(elements)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_link_shows_the_view_that_it_keeps(written_page, tmp_path):
    link = f"#page=prototypes&region=activation_map&label={urllib.parse.quote(NAMES[0])}&open=0&theme=dark"
    elements = dumped(written_page[0], tmp_path, link)
    assert elements.found[0][1]["data-theme"] == "dark"
    assert elements.all("data-prototype") == ["0", "1"]
    assert f"Prototype 0 of “{NAMES[0]}”" in elements.texts["detail"]
    harmless(elements)


def test_decisions_without_a_rival_or_rows_are_no_error(survey):
    one = survey[1].decisions[0]
    lonely = one.reasoning._replace(logits=np.asarray([1.0], np.float32), target=0)
    assert Decision(one.item, one.id, (), lonely, one.sum).rival is None
    assert one.rival[0] != one.reasoning.target
