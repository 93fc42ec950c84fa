"""The benchmark: stopped at any moment it goes on, more costs only itself, and its table says what
was measured."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import zipfile

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import unchecked
from flax import nnx

from mdm_jax import Classifier, InputError, explain_batch, methods
from mdm_jax.cli import evaluate as evaluate_command
from mdm_jax.cli.main import main
from mdm_jax.data import Example
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.evaluation import (
    benchmark,
    benchmark_steps,
    formatting,
    saved_maps,
    statistics,
    table_text,
    tables,
)
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.cost import Cost
from mdm_jax.evaluation.evaluate import evaluate
from mdm_jax.evaluation.statistics import Measured, Scores
from mdm_jax.metrics import Metric
from mdm_jax.progress import NullProgress
from mdm_jax.storage import arrays, workspace
from mdm_jax.storage.arrays import file_name, read_arrays
from mdm_jax.storage.map_store import MapStore
from mdm_jax.views import benchmark_figures

MDM = "mdm:steps=2,sizes=[4]"
MEASURES = ("energy:mask", "pointing:exact", "pxap:wsol", "sparseness:gini")


class Squares:
    """Seven images with a square each; the third is damaged, the fifth has no truth."""

    name, class_names = "squares", ("a", "b", "c")

    def __init__(self, brightness=0.9):
        self.brightness = brightness

    def __len__(self):
        return 7

    def __getitem__(self, index):
        if index == 2:
            raise InputError("square 2 is damaged")
        image = (
            np.random.default_rng(index).uniform(0.0, 0.3, (32, 32, 3)).astype(np.float32)
        )
        corner, mask = 3 * index, np.zeros((32, 32), bool)
        mask[corner : corner + 8, 4:12] = True
        image[mask] = self.brightness
        box = np.asarray([[4, corner, 12, corner + 8]], np.float32)
        return Example(
            f"square/{index}",
            image,
            index % 3,
            *((None, None) if index == 4 else (mask, box)),
        )


@pytest.fixture(scope="module")
def classifier(tiny):
    preprocessing = Preprocessing(3, (32, 32), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    return Classifier(tiny, "tiny", ("a", "b", "c"), preprocessing)


@pytest.fixture(scope="module")
def tiny():
    from mdm_jax.models.resnet import ResNet

    network = ResNet(num_classes=3, widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(0))
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


def plan(out, **more):
    return BenchmarkConfig(
        **(
            {"methods": (MDM, "gradient"), "metrics": MEASURES, "out": out, "chunk": 2}
            | more
        )
    )


def run(classifier, plan, source=None, progress=None):
    return benchmark.run(
        plan, {"net": lambda: classifier}, source or Squares(), progress=progress
    )


@pytest.fixture(scope="module")
def whole(classifier, tmp_path_factory):
    """A benchmark that was never stopped."""
    return run(classifier, plan(tmp_path_factory.mktemp("whole")))


def without_seconds(results):
    lines = list(csv.DictReader(io.StringIO(table_text.to_csv(tables.build(results)))))
    return [
        {key: value for key, value in line.items() if key != "seconds"} for line in lines
    ]


class Counted:
    """Counts the images that are explained and measured."""

    def __init__(self, monkeypatch):
        self.explained, self.measured = [], []
        explain, measure = explain_batch.explain, benchmark_steps.measure

        def counted_explain(predict, images, *args, **kwargs):
            self.explained.extend(kwargs["ids"])
            return explain(predict, images, *args, **kwargs)

        def counted_measure(metric, network, scene, **kwargs):
            self.measured.extend([metric.id] * len(scene.targets))
            return measure(metric, network, scene, **kwargs)

        monkeypatch.setattr(explain_batch, "explain", counted_explain)
        monkeypatch.setattr(benchmark_steps, "measure", counted_measure)


@pytest.mark.slow
def test_the_table_holds_what_is_computed_by_hand(whole, classifier):
    table = tables.build(whole)
    ids = [item.example.id for item in whole.images["net"]]
    assert ids == [f"square/{i}" for i in (0, 1, 3, 4, 5, 6)]
    for row in table.rows:
        maps = benchmark.stored_maps(whole, "net", row.method, ids)
        energies = [
            float(each[item.example.mask].sum() / each.sum())
            for each, item in zip(maps, whole.images["net"])
            if item.example.mask is not None
        ]
        summary = row.cells["energy:mask"].summary
        assert summary.value == pytest.approx(np.mean(energies), rel=1e-5)
        assert summary.interval == pytest.approx(
            statistics.estimate(statistics.mean, np.asarray(energies))[1], rel=1e-5
        )
        assert (summary.counted, summary.without_truth) == (5, 1)
        assert row.cells["sparseness:gini"].summary.counted == 6
    mdm, gradient = table.rows
    assert (mdm.cost.evaluations, gradient.cost.evaluations, gradient.cost.forwards) == (
        2,
        1,
        3,
    )
    assert table.reference == MDM
    ours, theirs = (row.cells["energy:mask"].summary.value for row in (gradient, mdm))
    cell = gradient.cells["energy:mask"]
    assert cell.difference == pytest.approx(ours - theirs)
    assert cell.verdict == statistics.verdict("higher", cell.interval)
    assert mdm.cells["energy:mask"].verdict == ""
    assert {row.cells["energy:mask"].rank for row in table.rows} >= {"best"}
    assert table.rows[int(ours > theirs)].cells["energy:mask"].rank == "best"
    assert "square 2 is damaged" in table.notes[0]
    assert "6 images, 5 with a mask, 5 with boxes" in table.notes[0]


def stopping(after):
    """Progress that stops the benchmark after `after` steps, as a kill between two files would."""
    steps = 0

    class Stopping(NullProgress):
        def advance(self, done, **measures):
            nonlocal steps
            steps += 1
            if steps == after:
                raise KeyboardInterrupt

    return Stopping()


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 10, 16, 24])
def test_stopped_and_run_again_it_ends_with_the_same_table(
    whole, classifier, tmp_path, after
):
    with pytest.raises(KeyboardInterrupt):
        run(classifier, plan(tmp_path), progress=stopping(after))
    again = run(classifier, plan(tmp_path))
    assert without_seconds(again) == without_seconds(whole)
    for path in whole.config.out.rglob("scores/*.npz"):
        with (
            zipfile.ZipFile(path) as first,
            zipfile.ZipFile(tmp_path / path.relative_to(whole.config.out)) as second,
        ):
            assert {name: first.read(name) for name in first.namelist()} == {
                n: second.read(n) for n in second.namelist()
            }


def test_nothing_is_left_half_written_when_a_write_fails(classifier, tmp_path, monkeypatch):
    written = arrays.write_whole

    def fails(path, write):
        if path.name == "maps-00001.npz":
            written(
                path,
                lambda file: (
                    file.write(b"half"),
                    (_ for _ in ()).throw(KeyboardInterrupt),
                )[0],
            )
        written(path, write)

    monkeypatch.setattr(arrays, "write_whole", fails)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, plan(tmp_path, methods=("gradient",), metrics=("energy",)))
    assert [path.name for path in (tmp_path / "net" / "gradient").glob("*.npz")] == [
        "maps-00000.npz"
    ]
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.slow
def test_more_costs_only_itself(classifier, tmp_path, monkeypatch):
    run(classifier, plan(tmp_path, methods=("gradient",), metrics=MEASURES[:2], limit=3))
    counted = Counted(monkeypatch)
    run(classifier, plan(tmp_path, methods=("gradient",), metrics=MEASURES[:2], limit=3))
    assert (counted.explained, counted.measured) == ([], [])
    run(classifier, plan(tmp_path, methods=("gradient",), metrics=MEASURES, limit=3))
    assert (counted.explained, sorted(counted.measured)) == (
        [],
        ["pxap:wsol"] * 2 + ["sparseness:gini"] * 2,
    )
    counted.measured.clear()
    run(
        classifier,
        plan(tmp_path, methods=("gradient", "random"), metrics=MEASURES[:1], limit=3),
    )
    assert (counted.explained, counted.measured) == (
        ["square/0", "square/4"],
        ["energy:mask"] * 2,
    )
    counted.explained.clear()
    all_images = run(
        classifier, plan(tmp_path, methods=("gradient",), metrics=MEASURES[:1])
    )
    assert counted.explained == ["square/1", "square/3", "square/5", "square/6"]
    fewer = run(
        classifier, plan(tmp_path, methods=("gradient",), metrics=MEASURES[:1], limit=3)
    )
    assert len(counted.explained) == 4
    rows = all_images.entries[0].scores.per_image("energy:mask")
    np.testing.assert_array_equal(
        fewer.entries[0].scores.per_image("energy:mask"), rows[[0, 3]]
    )


def changed_weights(classifier):
    import jax

    return dataclasses.replace(
        classifier, network=jax.tree.map(lambda leaf: leaf * 1.01, classifier.network)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, p: run(c, plan(p, seed=1)), "seed 0 -> 1"),
        (lambda c, p: run(c, plan(p, targets="label")), 'targets "prediction" -> "label"'),
        (lambda c, p: run(changed_weights(c), plan(p)), "weights"),
        (lambda c, p: run(c, plan(p), Squares(0.8)), "square/0 or its truth has changed"),
        (
            lambda c, p: benchmark.run(
                plan(p), {"net": lambda: c}, Squares(), data="folder:x"
            ),
            'data "squares" -> "folder:x"',
        ),
    ],
)
def test_what_has_changed_is_refused_and_named(whole, classifier, change, message):
    with pytest.raises(InputError) as error:
        change(classifier, whole.config.out)
    assert message in str(error.value)
    assert "choose another folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_defaults_of_a_method_are_refused(whole, classifier):
    path = whole.config.out / "net" / "gradient" / "method.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | {"config.reduction": "signed"}))
        with pytest.raises(InputError, match=r"config.reduction .signed. -> .maximum."):
            run(classifier, whole.config)
        path.write_text("{")
        with pytest.raises(InputError, match="is damaged: remove"):
            run(classifier, whole.config)
    finally:
        path.write_text(before)


def test_a_damaged_file_is_named(classifier, tmp_path):
    small = plan(tmp_path, methods=("gradient",), metrics=("energy",), limit=3)
    run(classifier, small)
    path = tmp_path / "net" / "gradient" / "maps-00000.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        InputError, match=r"maps-00000.npz is damaged .* remove it to compute it again"
    ):
        run(classifier, small)
    path.unlink()
    assert run(classifier, small).entries[0].cost is not None


def test_a_folder_without_maps_binds_nothing(classifier, tmp_path):
    class Others(Squares):
        class_names = ("x", "y")

        def __getitem__(self, index):
            return super().__getitem__(index)._replace(label=index % 2)

    small = plan(tmp_path, methods=("gradient",), metrics=("energy",), limit=3)
    with pytest.raises(InputError, match="no image that can be used"):
        run(classifier, dataclasses.replace(small, targets="label"), Others())
    assert run(classifier, small).entries[0].cost is not None
    with pytest.raises(InputError, match="targets"):
        run(classifier, dataclasses.replace(small, targets="label"))


def test_another_class_of_an_image_is_a_change(classifier, tmp_path):
    class Renamed(Squares):
        class_names = ("b", "a", "c")

    small = plan(tmp_path, methods=("gradient",), metrics=("energy",), limit=3)
    run(classifier, small)
    with pytest.raises(InputError, match="square/0 or its truth has changed"):
        run(classifier, small, Renamed())


def test_a_place_that_cannot_be_made_is_a_sentence(classifier, tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "gradient").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write to .*gradient .*another") as raised:
        run(classifier, plan(tmp_path, methods=("gradient",), limit=3))
    assert raised.value.setting == "out"


def test_one_image_has_a_table_without_intervals(classifier, tmp_path):
    table = tables.build(run(classifier, plan(tmp_path, metrics=("energy",), limit=1)))
    text = table_text.markdown(table)
    assert "1 image, 1 with a mask" in text
    assert " [" not in text.split("\n\n")[1]
    assert {row.cells["energy:mask"].verdict for row in table.rows} == {""}
    benchmark_figures.picture(table, "net").draw_without_rendering()
    benchmark_figures.quality_against_cost(table, "net").draw_without_rendering()


@pytest.mark.parametrize("name", ["method.json", "maps-00000.npz"])
def test_what_cannot_be_read_is_not_called_damaged(classifier, tmp_path, monkeypatch, name):
    small = plan(tmp_path, methods=("gradient",), metrics=("energy",), limit=3)
    run(classifier, small)
    opened = workspace.Path.open

    def fails(path, *args, **kwargs):
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(workspace.Path, "open", fails)
    with pytest.raises(InputError, match=rf"{name} cannot be read \(Permission denied\)"):
        run(classifier, small)


def test_a_lock_of_another_owner_is_a_sentence(classifier, tmp_path, monkeypatch):
    def fails(lock, timeout):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", fails)
    with pytest.raises(
        InputError,
        match=r"cannot write to .* \(Permission denied\): choose another folder",
    ):
        run(classifier, plan(tmp_path))


def test_two_at_once_are_refused(classifier, tmp_path):
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(InputError, match="another benchmark is at work"),
    ):
        run(classifier, plan(tmp_path))


def test_what_a_network_cannot_have_is_a_note_and_the_rest_goes_on(classifier, tmp_path):
    results = run(
        classifier,
        plan(tmp_path, methods=("rollout", "gradient"), metrics=("energy",), limit=3),
    )
    first, second = results.entries
    assert first.cost is None
    assert "attention" in first.notes[""]
    assert second.scores is not None
    text = table_text.markdown(tables.build(results))
    assert re.search(r"\| +n/a \|", text)
    assert "net, rollout not applicable: " in text
    assert benchmark_figures.map_grid(results, "net", 2) is not None


def test_only_correct_and_labels(classifier, tmp_path, whole):
    right = [item for item in whole.images["net"] if item.label == item.prediction]
    assert 0 < len(right) < len(whole.images["net"])
    small = plan(tmp_path, methods=("gradient",), metrics=("energy",))
    correct = run(classifier, plan(whole.config.out, only_correct=True))
    assert [item.example.id for item in correct.images["net"]] == [
        item.example.id for item in right
    ]
    labeled = run(
        classifier,
        plan(small.out, methods=("gradient",), metrics=("energy",), targets="label"),
    )
    assert [item.target for item in labeled.images["net"]] == [
        item.label for item in labeled.images["net"]
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ("grad",)}, "unknown method 'grad'"),
        ({"methods": ()}, "no methods"),
        ({"metrics": ("energy:x",)}, "unknown metric"),
        ({"metrics": ()}, "no metrics"),
        ({"methods": ("rise:samples=99999999999",)}, "less than 2147483648"),
        ({"methods": ("smoothgrad:noise=nan",)}, "noise is nan"),
        ({"methods": ("mdm:steps=1,steps=2",)}, "steps is given twice"),
        ({"limit": 0}, "limit is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"targets": "truth"}, "unknown targets"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_a_plan_that_cannot_be_writes_nothing(classifier, tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        run(classifier, unchecked(BenchmarkConfig, **vars(plan(tmp_path / "out")) | given))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_tables_and_figures_are_drawn(whole):
    table = tables.build(whole, "gradient")
    assert table.reference == "gradient"
    text = table_text.markdown(table)
    head, below, first = (line.split("|") for line in text.splitlines()[2:5])
    assert text.startswith("## net\n\n| method ")
    assert head[2].strip() == "energy:mask ↑"
    assert below[1].strip(":-") == below[2].strip(":-") == ""  # the line below the heads
    assert below[1].startswith(":-")  # aligned left
    assert below[2].endswith("-:")  # aligned right
    assert first[1].strip() == MDM
    assert "**gradient**" in text
    for metric in table.metrics.values():
        assert f"- {metric.id}" in text
    for figure in (
        benchmark_figures.picture(table, "net"),
        benchmark_figures.quality_against_cost(table, "net"),
        benchmark_figures.map_grid(whole, "net", 3),
    ):
        figure.draw_without_rendering()
        assert figure.axes


def restored(whole, out, without=()):
    """A copy of a benchmark, some columns of whose maps are missing."""
    shutil.copytree(whole.config.out, out)
    for path in out.rglob("maps-*.npz"):
        columns = read_arrays(path)
        arrays.write_arrays(path, {k: v for k, v in columns.items() if k not in without})
    return out


def test_a_benchmark_keeps_rankings_and_goes_on_with_maps_that_have_none(
    whole, classifier, tmp_path
):
    assert MapStore(whole.config.out / "net" / file_name(MDM)).has("ranking")
    assert not MapStore(whole.config.out / "net" / "gradient").has("ranking")
    metrics = ("insertion", "sparseness")

    def insertions(out):
        results = run(classifier, plan(out, metrics=metrics))
        return {each.method: each for each in results.entries}, tables.build(results)

    now, table = insertions(restored(whole, tmp_path / "now"))
    foot = "order metrics (insertion) read the method's ranking, others its saliency"
    assert f"- {MDM}: {foot}" in table_text.markdown(table)
    old, table = insertions(restored(whole, tmp_path / "old", without=("ranking",)))
    assert foot not in table_text.markdown(table)
    maps = MapStore(tmp_path / "now" / "net" / file_name(MDM))
    stored = maps.columns("saliency", "ranking", "target")
    ids = [item.example.id for item in whole.images["net"]]
    images = np.stack([item.example.image for item in whole.images["net"]])
    for found, ranking in ((now, stored["ranking"]), (old, None)):
        by_hand = evaluate(
            classifier,
            images,
            stored["saliency"],
            stored["target"],
            ranking=ranking,
            metrics=metrics,
            ids=ids,
        )
        for name in by_hand.measured:
            np.testing.assert_allclose(
                found[MDM].scores.per_image(name), by_hand.per_image(name), rtol=1e-5
            )
    insertion, sparseness = by_hand.measured
    for name, method in ((sparseness, MDM), (insertion, "gradient")):
        np.testing.assert_array_equal(
            now[method].scores.per_image(name), old[method].scores.per_image(name)
        )
    after, before = (each[MDM].scores.per_image(insertion) for each in (now, old))
    assert not np.allclose(after, before)


def test_tables_show_every_part_of_a_metric_and_their_spread():
    parts = ("dark", "bright")
    metric = Metric("sum", "two", lambda *_, key: 0, "higher", parts=parts)
    statistics = np.asarray([[0.1, 0.5], [0.3, 0.7]])
    entries = []
    for method, shift in (("mdm", 0.0), ("other", 0.2)):
        measured = {metric.id: Measured(statistics + shift, np.arange(2))}
        scores = Scores(("a", "b"), {metric.id: metric}, measured)
        entries.append(benchmark.Entry("net", method, Cost(1, 2, 3.0), scores))
    entries.append(benchmark.Entry("net", "neither", notes={"": "it cannot"}))
    table = tables.of_entries(entries, {metric.id: metric})
    lines = [line.split("|") for line in table_text.markdown(table).split("\n")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines if len(line) > 2]
    assert cells[2][:2] == ["**mdm**", ".400 ± .200 [.300, .500]"]
    assert cells[-4] == ["method", "dark", "bright", "mean", "spread"]
    assert cells[-2:] == [
        ["mdm", ".200", ".600", ".400", ".200"],
        ["other", ".400", ".800", ".600", ".200"],
    ]
    written = csv.DictReader(io.StringIO(table_text.to_csv(table)))
    found = [(row["method"], row["part"], row["value"], row["spread"]) for row in written]
    assert [each[:2] for each in found] == [
        ("mdm", ""),
        ("mdm", "dark"),
        ("mdm", "bright"),
        ("other", ""),
        ("other", "dark"),
        ("other", "bright"),
        ("neither", ""),
    ]
    assert [float(each[2]) for each in found[:3]] == pytest.approx([0.4, 0.2, 0.6])
    assert [each[3] for each in found[1:3]] == ["", ""]
    assert float(found[0][3]) == pytest.approx(0.2)
    records = table_text.to_records(table)
    assert records[1]["sum:two bright"] == pytest.approx(0.8)
    assert records[2]["sum:two spread"] is None
    assert [list(record) for record in records[1:]] == [list(records[0])] * 2
    (row, dark, bright) = evaluate_command._rows(entries[0].scores)
    assert (row["metric"], row["spread"]) == ("sum:two", pytest.approx(0.2))
    assert (dark["metric"], bright["value"]) == ("sum:two dark", pytest.approx(0.6))
    assert list(row) == list(dark) == list(bright)


def test_numbers_are_short():
    assert [
        formatting.format_number(value)
        for value in (0.1234, -0.5, 1.0, 12.345, float("nan"))
    ] == [
        ".123",
        "-.500",
        "1",
        "12.3",
        "NaN",
    ]
    assert formatting.format_interval(statistics.Interval(0.0, 1.0)) == "[.000, 1]"


def test_markdown_tables_are_those_written_by_hand():
    heads, rows = (
        ["method", "a|b", "s"],
        [["**mdm**", ".120 [.1, .2]", "1.50"], ["x", "", "007"]],
    )
    text = formatting.markdown_table(heads, rows, left_columns=("method",))
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    by_hand = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    assert lines[0] == by_hand[0].replace("a|b", "a\\|b")
    assert re.fullmatch(r"\|:-+\|-+:\|-+:\|", lines[1])
    assert lines[2:] == [re.sub(" +", " ", line) for line in by_hand[1:]]
    assert (
        len({len(line) for line in text.splitlines()}) == 1
    )  # columns lie below each other
    assert len(formatting.markdown_table(heads, []).splitlines()) == 2


def test_what_is_no_method_is_a_sentence():
    with pytest.raises(InputError, match="5 is no method"):
        methods.configure(5)


def test_file_names_are_safe_and_apart():
    assert file_name("energy:mask") == "energy--mask"
    names = [file_name(text) for text in ("a/b", "a b", "a\\b", "x" * 200, "x" * 201, "..")]
    assert len(set(names)) == 6
    assert all(
        name and "/" not in name and len(name) <= 90 and not name.startswith(".")
        for name in names
    )


def command(capsys, *arguments):
    code = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small benchmark by the command line."""
    out = tmp_path_factory.mktemp("digits")
    arguments = [
        "--limit",
        "2",
        "--methods",
        "gradient",
        "--metrics",
        "energy",
        "--grid",
        "2",
        "--out",
        str(out),
    ]
    assert main(["benchmark", *arguments]) == 0
    return out


@pytest.mark.slow
def test_the_commands_write_tables_and_agree(capsys, digits, tmp_path):
    assert {path.name for path in digits.iterdir()} >= {"table.md", "table.csv", "resnet"}
    assert {path.name for path in (digits / "resnet").glob("*.png")} == {
        "table.png",
        "cost.png",
        "maps.png",
    }
    (line,) = csv.DictReader(io.StringIO((digits / "table.csv").read_text()))
    common = ("--limit", 2, "--metrics", "energy", "--out", tmp_path / "scored", "--json")
    code, out, _ = command(capsys, "evaluate", digits / "resnet" / "gradient", *common)
    (row,) = json.loads(out)["rows"]
    assert (code, row["images"]) == (0, 2)
    assert row["value"] == pytest.approx(float(line["value"]))
    maps = read_arrays(digits / "resnet" / "gradient" / "maps-00000.npz")
    np.save(tmp_path / "maps.npy", maps["saliency"])
    code, out, _ = command(capsys, "evaluate", tmp_path / "maps.npy", *common)
    assert json.loads(out)["rows"][0]["value"] == row["value"]
    np.savez(
        tmp_path / "turned.npz", saliency=maps["saliency"][::-1], ids=maps["ids"][::-1]
    )
    code, out, _ = command(capsys, "evaluate", tmp_path / "turned.npz", *common)
    assert json.loads(out)["rows"][0]["value"] == pytest.approx(row["value"])
    with np.load(tmp_path / "scored" / "scores.npz") as arrays:
        assert arrays["ids"].tolist() == maps["ids"][::-1].tolist()
        assert arrays["energy:mask"].mean() == pytest.approx(row["value"])


@pytest.mark.slow
def test_evaluate_reads_the_ranking_of_saved_maps(capsys, tmp_path):
    one, other = np.random.default_rng(0).random((2, 2, 64, 64), np.float32)
    common = ("--limit", 2, "--metrics", "insertion", "sparseness", "--json")

    def values(**maps):
        np.savez(tmp_path / "maps.npz", **maps)
        call = ("evaluate", tmp_path / "maps.npz", "--out", tmp_path / "scored", *common)
        code, out, _ = command(capsys, *call)
        assert code == 0
        said = json.loads(out)
        is_told = "(insertion) read the ranking saved with the maps" in said["summary"]
        assert is_told == ("ranking" in maps)
        return [row["value"] for row in said["rows"]]

    insertion, _ = values(saliency=other)
    _, sparseness = values(saliency=one)
    assert values(saliency=one, ranking=other) == [insertion, sparseness]


def bad_calls(tmp_path, digits):
    def file(name, **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    scalar = tmp_path / "scalar.npy"
    np.save(scalar, np.float32(3))
    maps = np.zeros((2, 64, 64), np.float32)
    gradient = digits / "resnet" / "gradient"
    return {
        "missing": ([tmp_path / "none.npz"], "does not exist"),
        "empty": ([tmp_path / "empty"], "holds no maps"),
        "text": ([tmp_path / "text.npz"], "is damaged"),
        "no saliency": (
            [file("a.npz", maps=maps)],
            "holds no array saliency [n, h, w], but maps",
        ),
        "shape": (
            [file("b.npz", saliency=maps[:, :32]), "--limit", 2],
            "give one map for each image",
        ),
        "number": (
            [file("c.npz", saliency=maps), "--limit", 3],
            "holds 2 maps without ids for 3 images",
        ),
        "ids": (
            [file("d.npz", saliency=maps, ids=["x", "y"]), "--limit", 2],
            "has no image 'x'",
        ),
        "id count": ([file("e.npz", saliency=maps, ids=["x"])], "holds 1 ids for 2 maps"),
        "metric": (
            [gradient, "--limit", 2, "--metrics", "energ"],
            "unknown metric 'energ'",
        ),
        "data": ([gradient, "--data", "digit"], "unknown data source"),
        "again": ([gradient, "--limit", 2, "--metrics", "spread"], "say with method="),
        "targets": (
            [gradient, "--limit", 2, "--targets", "labels"],
            "unknown --targets 'labels'",
        ),
        "limit": ([gradient, "--limit", 0], "limit is 0"),
        "scalar": ([scalar], "saliency of shape ()"),
        "picture": ([digits / "resnet" / "maps.png"], "is no .npz or .npy"),
    }


EVALUATE_CASES = (
    *(
        "missing",
        "empty",
        "text",
        "no saliency",
        "shape",
        "number",
        "ids",
        "id count",
        "metric",
        "data",
        "again",
        "targets",
    ),
    *("limit", "scalar", "picture"),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", EVALUATE_CASES)
def test_maps_that_cannot_be_scored_are_one_sentence(capsys, tmp_path, digits, case):
    calls = bad_calls(tmp_path, digits)
    assert tuple(calls) == EVALUATE_CASES
    arguments, message = calls[case]
    code, out, err = command(capsys, "evaluate", *arguments, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "resnt"], "did you mean 'resnet'"),
        (["--models", "resnet", "resnet"], "two models are called resnet"),
        (["--methods", "rise:sample=3"], "did you mean 'num_samples'"),
        (["--data", "folder:nowhere"], "is not a folder"),
        (["--metrics", "insertion:rise-29"], "did you mean 'insertion:rise-28'"),
        (["--reference", "mdn"], "unknown reference 'mdn': did you mean 'mdm'"),
        (["--grid", "-1"], "--grid is -1: give 0 to 100"),
        (["--grid", "101"], "--grid is 101: give 0 to 100"),
    ],
)
def test_a_benchmark_that_cannot_be_is_one_sentence(capsys, tmp_path, arguments, message):
    code, out, err = command(capsys, "benchmark", *arguments, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_maps_of_mdm_explain_are_found_by_their_files_names(tmp_path):
    class Photographs(Squares):
        def __getitem__(self, index):
            return (
                super()
                .__getitem__(index)
                ._replace(id=f"val/{'a' if index < 6 else 'b'}/photo-{min(index, 5)}.png")
            )

    preprocessing = Preprocessing(3, (32, 32), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    for name, target in (("photo-1.png", 2), ("photo-0.png", 1)):
        np.savez(
            tmp_path / f"{name}-class{target}.npz",
            saliency=np.zeros((32, 32)),
            image_file=name,
            target=target,
        )
    found = saved_maps.read(tmp_path)
    framed, skipped = saved_maps.match_images(
        found, Photographs(), preprocessing, None, tmp_path
    )
    assert [each.id for each in framed] == ["val/a/photo-0.png", "val/a/photo-1.png"]
    assert found.targets.tolist() == [1, 2]
    assert skipped == ["square 2 is damaged"]
    np.savez(tmp_path / "photo-5-class0.npz", saliency=np.zeros((32, 32)))
    with pytest.raises(InputError, match="may be any of 2 images"):
        saved_maps.match_images(
            saved_maps.read(tmp_path), Photographs(), preprocessing, None, tmp_path
        )


def test_a_file_of_mdm_explain_or_of_a_benchmark_keeps_its_target(tmp_path):
    maps = np.zeros((2, 32, 32), np.float32)
    np.savez(
        tmp_path / "photo-class2.npz",
        saliency=maps[0],
        image_file="photo.png",
        target=2,
        steps=20,
    )
    one = saved_maps.read(tmp_path / "photo-class2.npz")
    assert (one.saliency.shape, one.ids, one.targets.tolist()) == (
        (1, 32, 32),
        ("photo.png",),
        [2],
    )
    np.savez(tmp_path / "maps-00000.npz", saliency=maps, ids=["a", "b"], target=[1, 2])
    assert saved_maps.read(tmp_path / "maps-00000.npz").targets.tolist() == [1, 2]
    (tmp_path / "maps-00000.npz").unlink()
    np.savez(tmp_path / "scores.npz", ids=["photo.png"])  # mdm evaluate with the same --out
    assert saved_maps.read(tmp_path).ids == ("photo.png",)


def test_saved_maps_have_their_ranking_where_the_method_gave_one(tmp_path):
    maps = np.zeros((2, 4, 4), np.float32)
    files = tmp_path / "explained"
    files.mkdir()
    np.savez(files / "a-class1.npz", saliency=maps[0], image_file="a.png", target=1)
    assert saved_maps.read(files).ranking is None
    # of another method, which has one
    np.savez(
        files / "b-class1.npz", saliency=maps[1], ranking=maps[1] + 1, image_file="b.png"
    )
    np.testing.assert_array_equal(saved_maps.read(files).ranking, [maps[0], maps[1] + 1])
    chunk = {"saliency": maps, "ids": ["a", "b"], "target": [1, 2]}
    np.savez(tmp_path / "maps-00000.npz", **chunk)
    assert saved_maps.read(tmp_path).ranking is None
    np.savez(tmp_path / "maps-00000.npz", **chunk, ranking=maps + 1)
    np.testing.assert_array_equal(saved_maps.read(tmp_path).ranking, maps + 1)
    np.savez(tmp_path / "one.npz", **chunk, ranking=maps[:1])
    with pytest.raises(InputError, match="holds 1 ranking for 2 maps"):
        saved_maps.read(tmp_path / "one.npz")


def test_a_map_of_a_damaged_image_is_named(tmp_path):
    preprocessing = Preprocessing(3, (32, 32), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)
    np.savez(tmp_path / "maps.npz", saliency=np.zeros((1, 32, 32)), ids=["square/2"])
    with pytest.raises(
        InputError, match=r"no image 'square/2' that can be read, .* square 2 is damaged"
    ):
        saved_maps.match_images(
            saved_maps.read(tmp_path / "maps.npz"), Squares(), preprocessing, None, tmp_path
        )


def test_a_reader_that_has_gone_is_no_error(capsys, digits, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        common = (
            "--limit",
            "2",
            "--methods",
            "gradient",
            "--metrics",
            "energy",
            "--out",
            str(digits),
        )
        assert main(["benchmark", *common, "--json"]) == 1
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_explain_by_another_method(capsys, tmp_path):
    import PIL.Image

    from mdm_jax.data import Digits

    PIL.Image.fromarray((Digits("test")[0].image * 255).astype(np.uint8)).save(
        tmp_path / "digit.png"
    )
    call = ("explain", tmp_path / "digit.png", "--out", tmp_path / "out")
    code, out, err = command(
        capsys, *call, "--method", "gradient:reduction=signed", "--json"
    )
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["rows"]
    assert row["evaluations"] == 1
    with np.load(tmp_path / "out" / f"digit-class{row['class']}.npz") as arrays:
        assert {"saliency", "attribution", "image_file", "target"} <= set(arrays)
        assert "mask_vector_0" not in arrays
        assert arrays["activation"] == pytest.approx(row["before"])
        assert arrays["activation"] > 1  # a logit, which the gradient's authors explain
    for arguments, message in (
        (["--method", "gradiant"], "did you mean 'gradient'"),
        (["--method", "gradient", "--preset", "paper"], "are not for gradient"),
        (["--method", "rollout"], "attention"),
    ):
        code, _, err = command(capsys, *call, *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
    assert methods.configure("gradient").name == "gradient"


def test_the_worst_images_of_the_reference_come_first(whole):
    """The grid's rows are in the order of the scores, worst first, whichever way the metric
    points."""
    model = next(iter(whole.images))
    for name, metric in whole.metrics.items():
        entry = next(
            entry
            for entry in whole.entries
            if entry.scores is not None and name in entry.scores.measured
        )
        values = entry.scores.per_image(name)
        figure = benchmark_figures.map_grid(whole, model, 3, (entry.method, name))
        if values.ndim != 1 or not np.isfinite(values).any():
            assert figure is None
            continue
        shown = [
            float(text.get_text().split(", ")[1])
            for ax in figure.axes
            for text in ax.texts
            if ", " in text.get_text()
        ]
        ordered = np.sort(values[np.isfinite(values)])
        expected = ordered[:3] if metric.better == "higher" else ordered[::-1][:3]
        np.testing.assert_allclose(shown, expected, atol=0.0051)
    assert benchmark_figures.map_grid(whole, model, 3, ("nobody", name)) is None


class Threshold(nnx.Module):
    """Sees how far the upper left is brighter than the background, and for the last square nothing
    at all."""

    def __call__(self, images):
        seen = jax.nn.relu((images * 0.25 + 0.5)[:, :18, 4:12].mean((1, 2, 3)) - 0.25)
        return jnp.stack(
            [20.0 * seen, jnp.zeros_like(seen), jnp.zeros_like(seen)], axis=-1
        ), {}


@pytest.mark.slow
def test_an_image_without_explanation_in_a_chunk_of_its_own_is_counted_and_ends_nothing(
    classifier, tmp_path
):
    blind = dataclasses.replace(classifier, network=Threshold())
    for chunk in (5, 6):  # the last image alone, and with the others
        results = run(
            blind,
            plan(
                tmp_path / str(chunk), methods=(MDM,), metrics=("energy:mask",), chunk=chunk
            ),
        )
        (entry,) = results.entries
        assert entry.scores is not None
        assert entry.failures == {"CONSTANT": 1}
        assert entry.scores.summary()["energy:mask"].counted == 5
        assert "for 1 images the activation was the same" in table_text.markdown(
            tables.build(results)
        )


@pytest.mark.slow
def test_one_method_s_cost_has_room_on_its_axis(whole):
    """Warnings are errors here: without limits of its own this axis is singular for some costs,
    such as 48."""
    table = tables.build(whole, "gradient")
    one = dataclasses.replace(table.of("net")[0], cost=Cost(15.0, 3.0))
    figure = benchmark_figures.quality_against_cost(
        dataclasses.replace(table, rows=(one,)), "net"
    )
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    assert low < 48 / 2 < 48 * 2 < high
