"""A benchmark with a budget: as many images as fit by a clock that the tests hold, fewer of the
costly ones, and the next one goes on where it stopped."""

import csv

import numpy as np
import pytest

from mdm_jax import Classifier, InputError
from mdm_jax.cli.main import main
from mdm_jax.data.network_input import PreparedExample, nested_order
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.evaluation import benchmark, benchmark_parts, tables
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig
from mdm_jax.evaluation.benchmark_images import BenchmarkImage
from mdm_jax.storage.map_store import MapStore

METRIC = "energy:mask"
# seconds and forward evaluations that an image takes
COSTS = {"gradient": (1.0, 6.0), "center": (2.0, 3.0), "rise": (20.0, 1000.0)}


class Clock:
    """Time that passes only with work."""

    now = 0.0

    def __call__(self):
        return self.now


class Images:
    """A source of which only the length and the names are asked."""

    name, class_names = "images", ("a",)

    def __init__(self, length=100):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        raise AssertionError("no image is read here")


def used_image(index):
    example = PreparedExample(str(index), np.zeros((1, 1, 3), np.float32), 0, None, None)
    return BenchmarkImage(example, 0, 0, 0)


PREPROCESSING = Preprocessing(3, (1, 1), 1.0, "bilinear", (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def clock(monkeypatch):
    """Maps and scores are stored as ever, but made at once; each takes its seconds of the clock."""
    clock = Clock()
    clock.explained = []

    def find_images(config, classifier, source, folder, progress, name, indices):
        return [used_image(i) for i in indices], f"{len(indices)} images"

    def explain_missing(run, progress):
        label = run.store.folder.name
        if label == "chefer":
            return "no attention"
        stored = run.store.columns("ids").get("ids", np.zeros(0, str)).tolist()
        ids = [each.example.id for each in run.images if each.example.id not in stored]
        if ids:
            seconds, forwards = COSTS[label]
            clock.now += seconds * len(ids)
            clock.explained += [(label, each) for each in ids]
            run.store.add(
                {
                    "ids": np.asarray(ids),
                    "evaluations": np.zeros(len(ids)),
                    "forwards": np.full(len(ids), forwards),
                    "seconds": np.full(len(ids), seconds),
                    "status": np.zeros(len(ids), int),
                }
            )
        return ""

    def measure_missing(run, metrics, progress):
        for name in metrics:
            ids = np.asarray([each.example.id for each in run.images])
            scores = np.random.default_rng(0).uniform(size=len(ids))
            columns = {"counted": np.ones(len(ids), bool), "statistics": scores}
            run.store.write_scores(name, columns | {"ids": ids})
        return {}

    monkeypatch.setattr(benchmark_parts, "find_images", find_images)
    monkeypatch.setattr(benchmark_parts, "explain_missing", explain_missing)
    monkeypatch.setattr(benchmark_parts, "measure_missing", measure_missing)
    monkeypatch.setattr(benchmark, "network_fingerprint", lambda classifier: {})
    return clock


def run(clock, out, methods=("rise", "gradient", "center"), length=100, **more):
    config = BenchmarkConfig(methods=methods, metrics=(METRIC,), out=out, **more)
    networks = {"net": lambda: Classifier(None, "net", ("a",), PREPROCESSING)}
    clock.start = clock.now
    return benchmark.run(config, networks, Images(length), clock=clock)


def counts(results):
    return {
        each.method: 0 if each.scores is None else len(each.scores.ids)
        for each in results.entries
    }


def test_as_many_images_are_used_as_fit(clock, tmp_path):
    """46 s for the pilot of two; 23 s an image: 600 s less a twentieth hold 24 images."""
    results = run(clock, tmp_path, budget=10.0)
    assert counts(results) == {"rise": 24, "gradient": 24, "center": 24}
    assert clock.now - clock.start == 24 * 23 <= 0.95 * 600
    ids = [image.example.id for image in results.images["net"]]
    assert ids == [str(i) for i in nested_order(100)[:24]]
    assert "chose 24 of 100 items" in results.notes[-1]
    assert "9.2 were used" in results.notes[-1]
    assert "most minutes: maps of rise 8.0" in results.notes[-1]


def test_cheap_methods_come_first(clock, tmp_path):
    run(clock, tmp_path, budget=10.0)
    after_pilot = clock.explained[6:]
    assert list(dict.fromkeys(label for label, _ in after_pilot)) == [
        *("gradient", "center", "rise")
    ]


def test_costly_methods_take_the_first_images_only(clock, tmp_path):
    results = run(clock, tmp_path, budget=10.0, costly_limit=5)
    assert counts(results) == {"rise": 5, "gradient": 100, "center": 100}
    assert "only the first 5 for rise" in results.notes[0]
    table = tables.build(results, "gradient")
    (rise,) = (row for row in table.rows if row.method == "rise")
    assert rise.cells[METRIC].summary.counted == 5
    assert rise.cells[METRIC].summary.without_truth == 0


def test_a_limit_of_costly_methods_needs_no_budget(clock, tmp_path):
    results = run(clock, tmp_path, costly_limit=3, limit=7)
    assert counts(results) == {"rise": 3, "gradient": 7, "center": 7}
    assert len(results.notes) == 1


def test_more_minutes_go_on_from_what_is_stored(clock, tmp_path):
    first = run(clock, tmp_path, budget=10.0)
    already = set(clock.explained)
    second = run(clock, tmp_path, budget=10.0)
    assert min(counts(second).values()) == 48
    assert len(clock.explained) == len(set(clock.explained)), "computed twice"
    assert already < set(clock.explained)
    before, after = (
        [image.example.id for image in each.images["net"]] for each in (first, second)
    )
    assert after[: len(before)] == before


def test_time_that_runs_out_leaves_fewer_images_for_the_last(clock, tmp_path, monkeypatch):
    """RISE gets slower after its pilot: it stops between chunks, and is compared on what it has."""
    pilot = list(clock.explained)
    monkeypatch.setitem(COSTS, "rise", (20.0, 1000.0))

    original = benchmark_parts.explain_missing

    def slower(run, progress):
        if len(clock.explained) > len(pilot) + 10:
            COSTS["rise"] = (60.0, 1000.0)
        return original(run, progress)

    monkeypatch.setattr(benchmark_parts, "explain_missing", slower)
    results = run(clock, tmp_path, budget=10.0, chunk=2)
    counted = counts(results)
    assert counted["gradient"] == counted["center"] == 24
    assert 2 < counted["rise"] < 24
    assert f"only the first {counted['rise']} for rise" in results.notes[0]
    # one chunk of two images may be slower than was expected
    assert clock.now - clock.start <= 0.95 * 600 + 2 * 60
    table = tables.build(results, "gradient")
    (rise,) = (row for row in table.rows if row.method == "rise")
    assert rise.cells[METRIC].summary.counted == counted["rise"]


def test_what_the_pilot_does_not_reach_is_named(clock, tmp_path):
    results = run(clock, tmp_path, budget=0.5)
    rise, gradient, center = results.entries
    assert rise.scores is not None
    assert gradient.scores is None
    assert "give more minutes" in center.notes[""]


def test_a_method_that_cannot_be_had_takes_no_time(clock, tmp_path):
    results = run(clock, tmp_path, methods=("chefer", "gradient"), budget=1.0)
    assert counts(results) == {"chefer": 0, "gradient": 57}
    assert results.entries[0].notes == {"": "no attention"}


@pytest.mark.parametrize("length", [0, 1, 2, 7, 64, 300])
def test_the_order_has_every_item_once(length):
    assert sorted(nested_order(length)) == list(range(length))


@pytest.mark.parametrize("count", [2, 5, 16, 40])
def test_the_first_items_are_spread_over_the_source(count):
    first = sorted(nested_order(300)[:count])
    gaps = np.diff([*first, 300 + first[0]])
    assert gaps.max() <= 2 * 300 / count + 1


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_number_of_minutes(budget, tmp_path):
    with pytest.raises(InputError, match="budget"):
        BenchmarkConfig(budget=budget, out=tmp_path).check()


def test_an_interrupted_part_leaves_whole_chunks(clock, tmp_path):
    run(clock, tmp_path, budget=10.0, chunk=4)
    chunks = MapStore(tmp_path / "net" / "rise").chunks()
    assert len(chunks) == 1 + -(-22 // 4)


@pytest.mark.slow
def test_the_command_writes_the_win_matrix(tmp_path, capsys):
    words = ["benchmark", "--models", "resnet", "--methods", "center", "random", "gradient"]
    words += ["--metrics", "energy", "pointing", "--limit", "10", "--costly-limit", "4"]
    words += ["--grid", "0", "--win-matrix", "--out", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "center against all others: first" in printed
    assert "win_matrix.png" in printed
    text = (tmp_path / "win_matrix.md").read_text()
    assert "## center against those that cost at most 10 times as much" in text
    assert "| resnet" in text
    lines = list(csv.DictReader((tmp_path / "win_matrix.csv").read_text().splitlines()))
    assert {line["rivals"] for line in lines} == {"all", "cost x10"}
    assert {line["images"] for line in lines} == {"10"}
    assert (tmp_path / "win_matrix.png").stat().st_size > 1000
