"""The page of runs: the maps that it draws are those of the package, nothing ends it, and it works
in a browser from files."""

import base64
import csv
import io
import json
import shutil
import subprocess
import urllib.parse
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any, NamedTuple
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mdm_jax import images, masks
from mdm_jax.cli.console import Terminal
from mdm_jax.cli.parse import parse
from mdm_jax.cli.report import ReportCommand
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.data.source import Example, ImageItem
from mdm_jax.errors import InputError
from mdm_jax.metrics import energy_pointing
from mdm_jax.progress import NullProgress
from mdm_jax.runs import arrays, records
from mdm_jax.runs.chunks import Layout
from mdm_jax.runs.store import ChunkData, open_store
from mdm_jax.storage.stored_format import FORMAT
from mdm_jax.views.pages import (
    ImageOrigin,
    columns,
    join_runs,
    maps,
    pictures,
    run_view,
    scores,
    write_report,
)

NOTHING = "\u2013"
HOSTILE = "</script><img src=x onerror=document.title='broken'>.png"
CLASSES = ("<b>cat</b>", "dog & \"co\" 'x'")
SIDE, SIZES = 16, ((2, 2), (4, 4))
CHROMIUM = (
    shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)


class Shapes(NamedTuple):
    """A source of bright squares, whose pixels are the object; some items fail in all ways."""

    count: int
    failing: Any = None
    """errors by item"""

    @property
    def name(self):
        return "shapes"

    @property
    def class_names(self):
        return CLASSES

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.failing and (failure := self.failing.get(index)):
            raise failure
        image = np.full((SIDE, SIDE, 3), 0.2, np.float32)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[4:8, index % 12 : index % 12 + 4] = True
        image[mask] = (1.0, 0.8, 0.1)
        return Example(name_of(index), image, index % 2, mask, None)


class Fake(NamedTuple):
    """A run with plain arrays."""

    place: Any
    description: dict[str, Any]
    records: Any
    mask_vectors: tuple[np.ndarray, ...]
    saliency_maps: np.ndarray | None = None


def name_of(index):
    return HOSTILE if index == 3 else f"shape{index:02d}.png"


def record(item, rank=0, ranks=1, **more):
    label = item % 2
    return {
        "row": item * ranks + rank, "item": item, "id": name_of(item), "label": label, "label_name": CLASSES[label],
        "rank": rank, "prediction": label if item % 3 else 1 - label, "probability": 0.5 + item / 50, "target": label,
        "activation": 0.8, "activation_masked": 0.8 - 0.01 * item, "activation_fill": 0.1, "kept_area": 0.02 * item + 0.1,
        "objective": 0.5, "steps": 20, "evaluations": 20, "forwards": 3, "term_area": 0.25, "status": "CONVERGED", "reason": "",
    } | more  # fmt: skip


def unreadable(item, reason="cannot be read <script>alert(1)</script>"):
    return {"row": item, "item": item, "id": name_of(item), "label": item % 2, "label_name": CLASSES[item % 2], "rank": 0,
            "status": "UNREADABLE", "reason": reason}  # fmt: skip


def table(rows, vector=False):
    return records.table(rows, records.schema(["area"], vector=vector))


def fake(name="run", count=8, *, bad=(), saliency=False, rows=None, seed=0, **settings):
    rows = (
        [unreadable(n) if n in bad else record(n) for n in range(count)]
        if rows is None
        else rows
    )
    random = np.random.default_rng(seed)
    vectors = (
        ()
        if saliency
        else tuple(
            random.uniform(0, 1, (len(rows), *size)).astype(np.float32) for size in SIZES
        )
    )
    kept = (
        random.uniform(0, 1, (len(rows), SIDE, SIDE)).astype(np.float16)
        if saliency
        else None
    )
    for array in (*vectors, *([] if kept is None else [kept])):
        array[list(bad)] = np.nan
    given = {
        "image": [SIDE, SIDE],
        "stack_weights": [1.0, 3.0],
        "method": name,
        "config": {"fill": "blur"},
    } | settings
    return Fake(
        f"/runs/{name}",
        {"settings": given, "classes": list(CLASSES)},
        table(rows),
        vectors,
        kept,
    )


def index_of(out):
    """What the page is told, decoded as it does."""
    text = (out / "data" / "index.js").read_text("ascii")
    assert text.startswith("Mdm.receive(")
    assert text.endswith(");\n")
    return json.loads(text[len("Mdm.receive(") : -3])


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def number(run, key):
    return next(
        unpacked(each["data"], "<f4") for each in run["numbers"] if each["key"] == key
    )


def test_bytes_of_a_map_give_it_back_within_half_a_step_of_its_range():
    values = np.random.default_rng(0).normal(3, 2, (4, 3, 5)).astype(np.float32)
    values[1], values[2, 0, 0] = 0.7, np.nan
    packed = maps.quantize(values)
    assert packed.shape == (4, 8 + 15)
    ends = packed[:, :8].copy().view("<f4")
    assert np.isnan(ends[2]).all()
    back = (
        ends[:, :1, None]
        + (ends[:, 1:, None] - ends[:, :1, None]) * packed[:, 8:].reshape(4, 3, 5) / 255
    )
    for row in (0, 1, 3):
        assert np.abs(back[row] - values[row]).max() <= np.ptp(values[row]) / 509 + 1e-6


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((24, 40), (24, 40)), ((224, 224), (56, 56)), ((100, 300), (20, 60))],
)
def test_large_maps_are_averaged_down_by_a_whole_number(shape, expected):
    values = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(np.float32)
    small = maps.reduce_maps(values)
    assert small.shape == (2, *expected)
    np.testing.assert_allclose(small.mean((1, 2)), values.mean((1, 2)), rtol=1e-4)


@pytest.mark.slow
def test_energy_is_that_of_the_package_on_the_map_of_the_package():
    run = fake(count=5)
    weights = [1.0, 3.0]
    objects = np.stack([Shapes(5)[n].mask for n in range(5)])
    found = maps.energies(
        maps.stack_masks(run.mask_vectors, (SIDE, SIDE), weights), objects, 2, stretch=True
    )
    for n in range(5):
        rendered = jnp.stack(
            [
                masks.render(jnp.asarray(vector[n]), (SIDE, SIDE))
                for vector in run.mask_vectors
            ]
        )
        saliency = masks.normalize(masks.stack(rendered, weights))
        assert found[n] == pytest.approx(
            float(energy_pointing(saliency, jnp.asarray(objects[n]))), rel=1e-5
        )


def test_the_fill_is_the_blur_of_the_package_at_the_cells():
    image = np.random.default_rng(0).uniform(0, 1, (30, 60, 3)).astype(np.float32)
    expected = images.gaussian_blur(jnp.asarray(image), 4.0)[1::3, 2::5]
    np.testing.assert_allclose(
        pictures.blur_at_cells(image, (10, 12), 4.0), expected, atol=1e-5
    )


def test_what_goes_beside_a_picture_holds_mean_fill_and_outline():
    example, cells = Shapes(1)[0], pictures.grid_for((SIDE, SIDE))
    packed = pictures.side_bytes(example.image, example.mask, cells)
    assert len(packed) == cells.stride
    np.testing.assert_allclose(packed[:3], example.image.mean((0, 1)) * 255, atol=0.51)
    assert packed[3] == 1
    bits = np.unpackbits(packed[4 + 3 * cells.fill[0] * cells.fill[1] :])[: SIDE * SIDE]
    np.testing.assert_array_equal(bits.reshape(SIDE, SIDE), example.mask)
    gray = pictures.side_bytes(example.image[..., :1], None, cells)
    assert gray[3] == 0
    assert gray[0] == gray[1] == gray[2]


def test_no_text_ends_its_script():
    text = columns.script_call("f", {"a": "</script><!-- & \u2028\ud800 \" '"}, 3).decode(
        "ascii"
    )
    assert not set("<>&\u2028") & set(text)
    assert json.loads(f"[{text[2:-3]}]") == [{"a": "</script><!-- & \u2028\ud800 \" '"}, 3]


def test_runs_are_joined_by_image_and_rank():
    left = table([record(0), record(1), record(3)])
    right = table([record(n, rank, 2) for n in (5, 1, 0) for rank in (0, 1)])
    both = join_runs.join_runs([left, right])
    assert both.ids == (name_of(0), name_of(1), name_of(3), name_of(5))
    np.testing.assert_array_equal(both.image, [0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_array_equal(both.rank, [0, 1, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(
        both.rows, [[0, -1, 1, -1, 2, -1, -1], [4, 5, 2, 3, -1, 0, 1]]
    )
    np.testing.assert_array_equal(both.items, [[0, 1, 3, -1], [0, 1, -1, 5]])
    assert join_runs.join_runs([left, right], 2).ids == (name_of(0), name_of(3))


def test_images_of_one_name_are_told_apart():
    twins = table([record(0), record(1, id=name_of(0)), record(2, id=None)])
    both = join_runs.join_runs([twins, twins])
    assert both.ids == (name_of(0), name_of(0), "item 2")
    np.testing.assert_array_equal(both.rows, [[0, 1, 2]] * 2)
    with pytest.raises(InputError, match="no chunk of the run is committed"):
        join_runs.join_runs([table([])])


def numbers_of(rows, vector=False, **settings):
    read = columns.read_numbers(table(rows, vector=vector), np.arange(len(rows)), settings)
    return {each.key: each for each in read}


def test_what_is_kept_is_the_share_of_the_way_from_the_fill_to_the_image():
    rows = [
        record(0),
        record(0, activation_masked=0.45),
        record(0, activation_masked=3.0),
        record(0, activation_masked=-5.0),
        record(0, activation=0.1, activation_masked=0.1, status="CONSTANT"),
        unreadable(3),
    ]
    found = numbers_of(rows, node="logit")
    np.testing.assert_allclose(
        found["kept"].values, [1, 0.5, 1, 0, np.nan, np.nan], rtol=1e-6
    )
    assert (found["kept"].title, found["kept"].kind) == ("logit kept", "share")
    less_is_more = {"activation": 0.1, "activation_masked": 0.45, "activation_fill": 0.8}
    distance = numbers_of([record(0, **less_is_more)], node="distance")
    np.testing.assert_allclose(distance["kept"].values, [0.5], rtol=1e-6)
    vectors = {
        "activation": [1.0, 2.0],
        "activation_masked": [0.5, 2.0],
        "activation_fill": [0.0, 0.0],
    }
    several = numbers_of([record(0, **vectors), unreadable(1)], vector=True, node="logits")
    np.testing.assert_allclose(several["kept"].values, [0.75, np.nan], rtol=1e-6)
    assert "activation" not in several


def test_numbers_are_named_after_their_node_and_none_is_shown_twice():
    found = numbers_of([record(0)], node="my_nodes.py:margin@1f2e")
    assert found["activation_fill"].title == "margin, fill alone"
    units = {each.node for each in found.values()}
    assert units == {"my_nodes.py:margin@1f2e", ""}
    assert not found["kept_area"].node
    assert found["term_area"].node
    assert not any(each.repeats for each in found.values())
    same = numbers_of([record(0, probability=0.8)], node="probability")
    assert [each.key for each in same.values() if each.repeats] == ["activation"]
    assert not numbers_of([record(0)], node="probability")["activation"].repeats
    assert "activation kept" in {each.title for each in numbers_of([record(0)]).values()}


def test_images_given_up_have_no_energy_and_a_note_says_so(tmp_path):
    rows = [record(0), record(1, status="LOST"), record(2, status="EMPTY"), record(3)]
    origin = [ImageOrigin(Shapes(4), None, None)]
    written = write_report([fake(rows=rows, node="logit")], origin, tmp_path / "page")
    energy = number(index_of(tmp_path / "page")["runs"][0], "energy")
    np.testing.assert_array_equal(np.isfinite(energy), [True, False, False, True])
    assert (written.given_up, written.nodes) == ((2,), ("logit",))
    assert any("energy in the object leaves out 2 maps" in note for note in written.notes)
    assert set(index_of(tmp_path / "page")["given_up"]) >= {"LOST", "EMPTY", "CONSTANT"}


def test_measured_metrics_are_found_by_id(tmp_path):
    ids, image, rank = ("a", "b", "c"), np.asarray([0, 0, 1, 2]), np.asarray([0, 1, 0, 0])
    assert scores.read_scores(tmp_path, ids, image, rank) == ([], "")
    measured = {
        "insertion:x": [0.1, 0.2, 0.3],
        "deletion:rise-28": [0.3, 0.2, 0.1],
        "curve:x": np.ones((3, 2)),
    }
    np.savez(tmp_path / "scores.npz", ids=np.asarray(["b", "a", "a"]), **measured)
    found, note = scores.read_scores(tmp_path, ids, image, rank)
    assert note == ""
    sides = {each.key: each.better for each in found}
    assert sides == {"metric:insertion:x": "none", "metric:deletion:rise-28": "lower"}
    np.testing.assert_allclose(found[0].values, [0.2, 0.3, 0.1, np.nan])
    assert "other images" in scores.read_scores(tmp_path, ("x",), image * 0, rank)[1]
    (tmp_path / "scores.npz").write_bytes(b"no")
    assert "damaged" in scores.read_scores(tmp_path, ids, image, rank)[1]


def test_a_page_holds_every_row_whatever_fails(tmp_path):
    class Broken:
        shape = (8, *SIZES[1])

        def __getitem__(self, rows):
            raise OSError("gone")

    source = Shapes(
        8,
        {
            1: InputError("shape01.png is damaged"),
            2: RuntimeError("<boom>"),
            5: MemoryError(),
        },
    )
    run = fake(bad=(1,))
    other = fake("other", saliency=True)
    broken = fake("broken")._replace(mask_vectors=(run.mask_vectors[0], Broken()))
    steps = []
    albums = [ImageOrigin(source, None, None)] * 3

    class Recording(NullProgress):
        def begin(self, task, total, done=0):
            assert total == 8

        def advance(self, done, **measures):
            steps.append(done)

    written = write_report(
        [run, other, broken], albums, tmp_path / "page", progress=Recording()
    )
    assert (written.images, written.entries, written.pictures, written.explained) == (
        8,
        8,
        (5,),
        (7, 8, 8),
    )
    assert steps == [8]
    assert any(
        "broken: maps of images 1 to 8 cannot be read (OSError)" in note
        for note in written.notes
    )
    assert any("3 of 8 pictures" in note for note in written.notes)
    index = index_of(written.page.parent)
    assert index["ids"][3] == HOSTILE
    assert len(index["frames"]) == 1
    assert set(index["frames"][0]["reasons"]) == {"1", "2", "5"}
    first, second, third = index["runs"]
    assert [each["kind"] for each in index["runs"]] == ["masks", "saliency", "masks"]
    assert first["reasons"] == {"1": unreadable(1)["reason"]}
    assert first["fill"] == "blur"
    assert first["settings"]["config.fill"] == "blur"
    np.testing.assert_array_equal(
        np.isfinite(number(first, "energy")), [n not in (1, 2, 5) for n in range(8)]
    )
    np.testing.assert_array_equal(unpacked(first["prediction"], "<i4")[:4], [1, -1, 0, 0])
    assert "energy" not in {each["key"] for each in third["numbers"]}
    saliency, objects = other.saliency_maps[4].astype(np.float32), source[4].mask
    assert number(second, "energy")[4] == pytest.approx(
        saliency[objects].sum() / saliency.sum(), rel=1e-4
    )
    assert len(list((tmp_path / "page" / "images").rglob("*.jpg"))) == 5


def test_a_damaged_mask_costs_the_outline_alone():
    class Photo(NamedTuple):
        shapes: Shapes

        def __getitem__(self, index):
            raise InputError("its mask is damaged")

        def read_image(self, index):
            example = self.shapes[index]
            return ImageItem(
                example.id,
                PIL.Image.fromarray(images.to_uint8(example.image)),
                example.label,
            )

        name = class_names = property(lambda self: ("x",))

        def __len__(self):
            return 1

    found = pictures.read_framed(Photo(Shapes(1)), 0, None, name_of(0))
    assert found.image.shape == (SIDE, SIDE, 3)
    assert found.mask is None
    assert "in its place" in pictures.read_framed(Shapes(3), 0, None, name_of(1)).reason


def test_networks_that_see_alike_share_their_pictures(tmp_path):
    plain = Preprocessing(3, (SIDE, SIDE), 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    source = Shapes(4)
    albums = [
        ImageOrigin(source, None, how)
        for how in (plain, Preprocessing(**asdict(plain) | {"mean": (0.5,) * 3}), None)
    ]
    albums.append(ImageOrigin(source, None, Preprocessing(**asdict(plain) | {"crop": 0.5})))
    runs = [fake(name, 4) for name in "abcd"]
    written = write_report(runs, albums, tmp_path / "page")
    assert [run["frame"] for run in index_of(tmp_path / "page")["runs"]] == [0, 0, 1, 2]
    assert written.pictures == (4, 4, 4)
    assert written.names == tuple("abcd")


def test_names_tell_runs_apart():
    assert run_view.short_names(["/x/a/run", "gs://y/b/run/"]) == ["a/run", "b/run"]
    assert run_view.short_names(["/x/run", "/x/run"]) == ["run (1)", "run (2)"]
    assert run_view.short_names(["/x/one", "y/two"]) == ["one", "two"]


def test_a_report_replaces_a_report_and_nothing_else(tmp_path):
    out, album = tmp_path / "page", [ImageOrigin(Shapes(300), None, None)]
    write_report([fake(count=300)], album, out)
    before = len(list(out.rglob("*.jpg")))
    write_report([fake(count=300)], album, out, limit=20)
    assert (before, len(list(out.rglob("*.jpg")))) == (300, 20)
    assert [run["name"] for run in index_of(out)["runs"]] == ["run"]
    assert index_of(out)["ids"][1] == name_of(15)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("my own page")
    for place in (tmp_path / "mine", tmp_path / "mine" / "index.html"):
        with pytest.raises(InputError, match=r"choose (a|another|a new) folder"):
            write_report([fake()], album, place)
    assert (tmp_path / "mine" / "index.html").read_text() == "my own page"


def stored(place, count=6, request=None):
    """A run on disk."""
    layout = Layout(items=count, targets=1, chunk=4)
    store = open_store(place)
    settings = {"image": [SIDE, SIDE], "stack_weights": None, "method": "mdm"}
    told = {
        "format": FORMAT,
        "layout": asdict(layout),
        "settings": settings,
        "classes": list(CLASSES),
        "request": request,
    }
    store.begin(told)
    store.create(arrays.specs(SIZES, None), layout)
    for chunk in range(layout.chunks):
        rows = layout.rows_of(chunk)
        values = {
            f"mask_vectors/{h}x{w}": np.full((len(rows), h, w), 0.5, np.float32)
            for h, w in SIZES
        }
        for array in values.values():
            array[:, 0, 0] = 0.9
        store.write(ChunkData(chunk, table([record(row) for row in rows]), values)).result()
    return str(place)


@pytest.fixture
def folder(tmp_path):
    """The squares as files, in two classes."""
    for n in range(6):
        file = tmp_path / "photos" / "val" / f"c{n % 2}" / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(
            images.to_uint8(np.kron(Shapes(6)[n].image, np.ones((3, 3, 1))))
        ).save(file)
    return tmp_path / "photos"


def test_the_command_opens_runs_and_their_images(tmp_path, folder):
    how = {
        "channels": 3,
        "size": [SIDE, SIDE],
        "crop": 1.0,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    request = {
        "data": f"folder:{folder}",
        "split": "val",
        "limit": None,
        "preprocessing": how,
    }
    place = stored(tmp_path / "run", request=request)
    command = parse(ReportCommand, "mdm report", [place, "--out", str(tmp_path / "page")])
    assert (command.runs, command.out, command.limit) == ((place,), tmp_path / "page", None)

    def report(runs, data=None, split=None, limit=None):
        command = ReportCommand(
            runs=runs, out=tmp_path / "page", data=data, split=split, limit=limit
        )
        return command.run(Terminal(as_json=True))

    result = report(command.runs)
    assert result.rows[0]["images"] == 6
    kept = result.rows[0]["kept of the node (median)"]
    assert kept == pytest.approx(1 - 0.025 / 0.7)  # between the third and the fourth of six
    assert (
        "6 of 6 pictures" in result.text
    )  # names of the run are not those of the files: said, and the page stands
    assert json.dumps(result.rows)
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"is not a folder.*have moved, say with --data"):
        report(command.runs)
    assert (
        report(command.runs, f"folder:{tmp_path / 'moved'}", "val", 3).rows[0]["images"]
        == 3
    )
    other = stored(tmp_path / "other")
    with pytest.raises(InputError, match=r"made by a program.*--data"):
        report((other,))
    nowhere = str(tmp_path / "nowhere")
    for places, limit, sentence in (
        ((), None, "no runs"),
        ((other,), 0, "--limit is 0"),
        ((nowhere,), None, "holds no run"),
    ):
        with pytest.raises(InputError, match=sentence):
            report(places, limit=limit)


# In a browser


class Elements(HTMLParser):
    """The elements of a page as (name, attributes), and what stands in the element with an id."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside, self.texts = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in {"img", "input", "meta", "link", "br"}:
            self.inside.append(dict(attrs).get("id"))

    def handle_endtag(self, tag):
        if tag not in {"img", "input", "meta", "link", "br"} and self.inside:
            self.inside.pop()

    def handle_data(self, data):
        for name in filter(None, self.inside):
            self.texts[name] = self.texts.get(name, "") + data

    def all(self, attribute):
        return [
            attributes[attribute] for _, attributes in self.found if attribute in attributes
        ]


PROBE = """
"use strict";
// Goes through the page as a person would, and writes down what it finds.
(async () => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const ids = () => [...document.querySelectorAll("#cards [data-entry]")].map((each) => Number(each.dataset.entry));
  const key = async (key, target = document.activeElement) => {
    target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    await wait(250);
  };
  const go = async (hash) => { location.hash = hash; await wait(250); };
  const found = { errors: [] };
  addEventListener("error", (event) => found.errors.push(event.message));
  while (!document.documentElement.dataset.ready) await wait(20);
  await wait(300);
  found.first = ids();
  await go("#sort=kept");
  found.byKept = ids();
  await go("#sort=kept&desc=1&right=wrong");
  found.wrong = ids();
  await go("#where=kept_area:0.2~0.3");
  found.between = ids();
  history.back();
  await wait(250);
  found.back = ids();
  await go("#q=CAT+shape");
  found.searched = ids();
  found.count = document.getElementById("count").textContent;
  await go("#given=only");
  found.givenUp = ids();
  found.givenUpCount = document.getElementById("count").textContent;
  await go("#status=UNREADABLE");
  found.unreadable = ids();
  found.note = document.querySelector("#cards .note")?.textContent;
  await go("#of=0-1&sort=kept_area&desc=1");
  found.difference = ids().slice(0, 3);
  await go("#view=masked&fill=mean");
  found.masked = document.querySelectorAll("#cards canvas.opaque").length;
  await go("#view=masks");
  found.mosaics = [...document.querySelectorAll("#cards .mosaic")].map((each) => each.children.length).slice(0, 4);
  await go("#page=summary");
  found.plots = document.querySelectorAll("#summary svg").length;
  found.classes = [...document.querySelectorAll("#summary .classes tbody th")].map((each) => each.textContent);
  const cells = (row) => [...row.children].map((each) => each.textContent);
  found.metrics = [...document.querySelectorAll("#summary .metrics tbody tr")].map(cells);
  found.axes = [...document.querySelectorAll("#summary .plot")].map((each) => [each.querySelector("figcaption").textContent, each.querySelectorAll(".area").length]);
  found.medians = [[3], [1, 2], [1, 2, 4], [1, 2, 4, 9]].map((values) => Mdm.median(values));
  found.svg = Mdm.plots(document.getElementById("summary"));
  found.csv = Mdm.table([3, 5, 1]);
  await go("#sort=kept&q=shape1");
  window.print = () => { found.sheet = [document.querySelectorAll("#sheet figure").length, [...document.querySelectorAll("#sheet img")].every((each) => each.complete && each.naturalWidth > 0), document.querySelector("#sheet p + p").textContent]; };
  document.getElementById("figure").click();
  while (!found.sheet) await wait(50);
  await go("");
  await key("ArrowRight", document.body);
  await key("ArrowRight");
  found.active = Number(document.activeElement.dataset.entry);
  document.activeElement.click();
  await wait(250);
  found.opened = [document.getElementById("detail").open, document.getElementById("detail-title").textContent, location.hash];
  await key("ArrowRight");
  await key("ArrowRight");
  await wait(300);
  found.next = [document.querySelector("#detail .name p").textContent, location.hash];
  const texts = (row) => [...row.children].map((cell) => cell.textContent);
  found.table = [...document.querySelectorAll("#detail tbody tr")].map(texts);
  await key("Escape");
  document.getElementById("detail").dispatchEvent(new Event("cancel", { cancelable: true }));
  await wait(250);
  found.closed = [document.getElementById("detail").open, location.hash, Number(document.activeElement.dataset.entry)];
  await key("2");
  await key("d");
  await key("4");
  await key("/");
  await wait(300);
  found.keys = [location.hash, document.activeElement.id];
  await go("#view=overlay&sort=nothing&opacity=abc&where=x&of=9-7&hide=0-1-2-3&scale=1x1&open=nobody&size=huge");
  found.nonsense = ids().length;
  found.told = document.getElementById("notes").textContent;
  const run = Mdm.runs[0];
  const stack = Mdm.stack(run, 4, 16, 16);
  found.saliency = [...stack.saliency];
  found.missing = Mdm.stack(run, 1, 16, 16) === undefined;
  found.nodes = document.getElementsByTagName("*").length;
  const output = document.createElement("pre");
  output.id = "probe";
  output.textContent = JSON.stringify(found);
  document.body.append(output);
})();
"""


def dumped(page, profile, hash=""):
    """The document as Chromium has it after some seconds of its own time."""
    options = (
        "--headless=new --no-sandbox --disable-gpu --disable-background-networking"
        " --disable-component-update"
    )
    options += (
        " --disable-sync --no-first-run --disable-extensions --window-size=1400,1000"
        " --virtual-time-budget=20000 --dump-dom"
    )
    url = "file://" + urllib.parse.quote(str(page)) + hash
    command = [CHROMIUM, *options.split(), f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return Elements(done.stdout.decode())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three runs on 40 images, with hostile names."""
    out = tmp_path_factory.mktemp("report") / "a page #1"
    rows = [record(n) for n in range(40)]
    rows[1], rows[5] = unreadable(1), record(5, status="LOST", reason="=too little, kept")
    first = fake("one", rows=rows, bad=(1,), node="probability")
    vary = [record(n, kept_area=0.5 - 0.01 * n) for n in range(30)]
    second = fake("two", rows=vary, seed=1, node="logit")
    third = fake("<i>three</i>", 40, saliency=True, node="logit")
    write_report([first, second, third], [ImageOrigin(Shapes(40), None, None)] * 3, out)
    return out, first


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_works_in_a_browser(page, tmp_path):
    out, run = page
    text = (out / "index.html").read_text()
    (out / "probe.html").write_text(
        text.replace("</head>", '<script src="assets/probe.js" defer></script></head>')
    )
    (out / "assets" / "probe.js").write_text(PROBE)
    elements = dumped(out / "probe.html", tmp_path)
    found = json.loads(elements.texts["probe"])
    everything = list(range(40))
    assert found["errors"] == []
    assert found["first"] == everything[: len(found["first"])]
    assert len(found["first"]) < 40  # only those that are to be seen, and a row more
    kept = [n for n in range(39, 0, -1) if n != 1]
    assert (
        found["byKept"] == kept[: len(found["byKept"])]
    )  # the image without a result comes last
    assert found["wrong"] == [n for n in everything if n % 3 == 0][: len(found["wrong"])]
    assert found["between"] == [
        n for n in everything if 0.2 <= round(0.02 * n + 0.1, 6) <= 0.3
    ]
    assert found["back"] == found["wrong"]
    named = [
        n for n in everything if n != 3 and (n % 2 == 0 or n % 3 == 0)
    ]  # "shape", and a cat in truth or in a prediction
    assert found["searched"] == named[: len(found["searched"])]
    assert found["count"] == f"{len(named)} of 40 images"
    assert found["unreadable"] == [1]
    assert found["note"] == "UNREADABLE" + unreadable(1)["reason"]
    assert found["difference"] == [29, 28, 27]
    assert found["masked"] > 10
    assert found["mosaics"][:2] == [2, 2]
    assert (found["givenUp"], found["givenUpCount"]) == ([5], "1 of 40 images, 1 given up")
    assert found["plots"] >= 3
    assert found["medians"] == [3, 1.5, 2, 3]
    saved_and_printed(found)
    assert set(found["classes"]) == set(CLASSES)
    assert found["active"] == 1
    assert found["opened"][:2] == [True, CLASSES[1]]
    assert "open=shape01.png" in found["opened"][2]
    assert found["next"][0] == HOSTILE
    assert urllib.parse.parse_qs(found["next"][1][1:])["open"] == [HOSTILE]
    rows = {row[0]: row[1:] for row in found["table"]}
    assert rows["probability kept"] == ["96 %", NOTHING, NOTHING]
    assert rows["logit kept"] == [NOTHING, "96 %", "96 %"]
    assert rows["prediction"][0] == f"{CLASSES[0]} ✗"
    assert found["closed"] == [False, "", 3]
    assert "view=masks" in found["keys"][0]
    assert "theme=dark" in found["keys"][0]
    assert found["keys"][1] == "q"
    assert found["nonsense"] > 4
    assert "nobody, which is not in this report" in found["told"]
    rendered = jnp.stack(
        [masks.render(jnp.asarray(vector[4]), (SIDE, SIDE)) for vector in run.mask_vectors]
    )
    expected = masks.normalize(masks.stack(rendered, [1.0, 3.0]))
    np.testing.assert_allclose(
        np.reshape(found["saliency"], (SIDE, SIDE)), expected, atol=0.012
    )
    assert found["missing"]
    assert found["nodes"] < 2500
    harmless(elements)


def saved_and_printed(found):
    """Numbers of two nodes share no axis and no cell; the selection is saved as it is shown."""
    series = dict(found["axes"])
    assert (series["probability kept"], series["logit kept"]) == (1, 2)
    assert (series["probability, masked image"], series["logit, masked image"]) == (1, 2)
    assert series["area kept"] == 3
    rows = {row[0]: row[1:] for row in found["metrics"]}
    assert rows["probability kept"][0] == "↑ higher"
    assert rows["probability kept"][4:] == [NOTHING] * 6
    assert rows["logit kept"][1:4] == [NOTHING] * 3
    assert rows["area kept"][:4] == ["↓ lower", "50 %", "50 %", "39"]
    assert rows["energy in the object"][3] == "38"
    lines = list(csv.DictReader(io.StringIO(found["csv"])))
    assert [line["id"] for line in lines] == [HOSTILE] * 3 + [name_of(5)] * 3 + [
        name_of(1)
    ] * 3
    assert lines[3]["reason"] == "'=too little, kept"
    assert [line["given_up"] for line in lines[2:5]] == ["no", "yes", "no"]
    assert [line["node"] for line in lines[:3]] == ["probability", "logit", "logit"]
    assert float(lines[0]["kept"]) == pytest.approx(1 - 0.03 / 0.7)
    assert lines[6]["kept"] == ""
    drawn = ElementTree.fromstring(found["svg"]).findall("{*}svg")
    assert len(drawn) == found["plots"]
    assert found["sheet"][:2] == [10, True]
    assert found["sheet"][2].endswith("by probability kept")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_link_shows_the_view_that_it_keeps(page, tmp_path):
    link = f"#view=masks&sort=kept&desc=1&label={urllib.parse.quote(CLASSES[1])}&open={urllib.parse.quote(HOSTILE)}&theme=dark"
    elements = dumped(page[0] / "index.html", tmp_path, link)
    shown = [int(entry) for entry in elements.all("data-entry")]
    assert shown == list(range(3, 40, 2))[: len(shown)]
    assert elements.found[0][1]["data-theme"] == "dark"
    assert ("dialog", "") in [
        (tag, attributes.get("open")) for tag, attributes in elements.found
    ]
    assert HOSTILE in elements.texts["detail"]
    assert unreadable(1)["reason"] not in elements.texts["detail"]
    pressed = [
        attributes
        for _, attributes in elements.found
        if attributes.get("aria-pressed") == "true"
    ]
    assert "masks" in [attributes.get("data-view") for attributes in pressed]
    harmless(elements)


ASKING = (
    "http:",
    "https:",
    "fetch(",
    "XMLHttpRequest",
    "import(",
    "url(",
    "eval(",
    "innerHTML",
    "document.write",
)


def harmless(elements):
    """No text of ours became an element, and nothing comes from elsewhere."""
    assert "broken" not in elements.texts.get("title", "")
    assert not elements.all("onerror")
    assert not [
        tag for tag, attributes in elements.found if tag in {"b", "i"} and not attributes
    ]
    places = elements.all("src") + elements.all("href")
    assert all(
        place.startswith(("assets/", "data/", "images/", "#", "data:")) for place in places
    )


def test_nothing_in_the_folder_asks_for_anything_elsewhere(page):
    for path in page[0].rglob("*"):
        if path.suffix in {".html", ".css", ".js"} and path.name not in {
            "probe.js",
            "probe.html",
        }:
            text = path.read_text()
            assert not [word for word in ASKING if word in text]
    assert "default-src 'none'" in (page[0] / "index.html").read_text()
