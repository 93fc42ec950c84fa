"""Sweeps: maps to the bit, compiled once, resumed, ranked by hand-computed values, and one sentence
for bad input."""

import dataclasses

import numpy as np
import pytest
from conftest import PATCH, patch_network

import mdm_jax
from mdm_jax import PRESETS, InputError, MDMConfig, explain, mdm
from mdm_jax.evaluation.measure import Explainer
from mdm_jax.evaluation.scene import Scene
from mdm_jax.execution.keys import as_key
from mdm_jax.metrics import Metric
from mdm_jax.sweeps import grid, store
from mdm_jax.sweeps.point_result import score_point
from mdm_jax.sweeps.points import point

AREA = Metric(
    "area", "test", lambda predict, sample, *, key: sample.saliency.mean(), "lower", "map"
)
INSIDE = Metric(
    "inside",
    "test",
    lambda predict, sample, *, key: (sample.saliency * sample.mask).mean(),
    "higher",
    "mask",
)
LOGIT = Metric(
    "seen",
    "test",
    lambda predict, sample, *, key: predict(
        (sample.saliency[..., None] * sample.image)[None]
    )[0],
    "none",
    reduce=lambda statistics: float(np.mean(np.asarray(statistics)[:, 0])),
)
METRICS = (AREA, INSIDE, LOGIT)
BASE = MDMConfig(sizes=(4, 8), steps=3)
NUMBERS = [
    {"learning_rate": 0.1},
    {"learning_rate": 0.5, "objective.area": 2.0},
    {"tolerance": 0.1, "start": 0.4},
]


@pytest.fixture(scope="module")
def masks(images):
    mask = np.zeros((32, 32), bool)
    mask[PATCH] = True
    return [mask, None, mask]


@pytest.fixture(scope="module")
def swept(images, masks):
    """Three points of one structure and one of another."""
    return mdm_jax.sweep(
        patch_network,
        images,
        [*NUMBERS, {"schedule": "independent"}],
        base=BASE,
        metrics=METRICS,
        object_masks=masks,
    )


@pytest.mark.slow
def test_other_numbers_compile_nothing(swept, images, masks, compilations):
    points = grid(
        {
            "learning_rate": [0.11, 0.12],
            "objective.area": [1.0, 4.0],
            "tolerance": [0.1],
            "start": [0.4, 0.6],
        }
    )
    with compilations as counted:
        result = mdm_jax.sweep(
            patch_network, images, points, base=BASE, metrics=METRICS, object_masks=masks
        )
    assert (
        counted.count <= 2
    )  # the tolerance is now alike: the program has fewer numbers to sweep
    points[0]["learning_rate"] = 0.13
    with compilations as counted:
        again = mdm_jax.sweep(
            patch_network, images, points, base=BASE, metrics=METRICS, object_masks=masks
        )
    assert counted.count == 0
    np.testing.assert_array_equal(result.values("area")[1:], again.values("area")[1:])


@pytest.mark.slow
def test_values_are_those_of_the_maps(swept, images, masks):
    maps = [
        explain(patch_network, images, config=each).saliency for each in swept.configs[:3]
    ]  # one program
    np.testing.assert_allclose(
        swept.values("area")[:3], [each.mean() for each in maps], rtol=1e-5
    )
    inside = [np.mean([(each[i] * masks[i]).mean() for i in (0, 2)]) for each in maps]
    np.testing.assert_allclose(swept.values("inside:test")[:3], inside, rtol=1e-5)
    assert swept.scores[0].per_image("seen:test").shape == (3, 2)
    assert np.isnan(swept.scores[0].per_image("inside:test")[1])
    np.testing.assert_array_equal(swept.evaluations, [3, 3, 3, 6])
    assert swept.points[1] == {"learning_rate": 0.5, "objective.area": 2.0}
    assert [term.weight for term in swept.configs[1].objective] == [1.0, 2.0]


def test_order_metrics_of_a_point_read_its_ranking(images):
    order = Metric(
        "order",
        "test",
        lambda predict, sample, *, key: sample.ranking.mean(),
        "none",
        "map",
    )
    found = explain(patch_network, images, config=BASE)
    n, nothing = len(images), np.zeros(images.shape[:3], np.float32)
    scene = Scene(
        images,
        *(nothing, nothing, nothing),
        found.info.target,
        *([None] * n, [None] * n),
        np.arange(n, dtype=np.uint32),
    )

    def measured(found):
        metrics = {each.id: each for each in (AREA, order)}
        explainer = Explainer(mdm.explain, "probability", BASE)
        key = as_key(0)
        result = score_point(found, scene, metrics, patch_network, explainer, key)
        return [result.measured[name].statistics for name in metrics]

    areas, orders = measured(found)
    np.testing.assert_allclose(areas, found.saliency.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(orders, found.ranking.mean((1, 2)), rtol=1e-5)
    assert not np.allclose(areas, orders)
    # a map that serves for both
    np.testing.assert_array_equal(measured(found._replace(ranking=None)), [areas, areas])


class Enough(Exception):
    pass


def stop_after(count):
    def progress(done):
        if done == count:
            raise Enough

    return progress


def test_a_sweep_goes_on_where_it_was_stopped(swept, images, masks, tmp_path):
    arguments = {
        "base": BASE,
        "metrics": METRICS,
        "object_masks": masks,
        "out": tmp_path / "sweep",
    }
    with pytest.raises(Enough):
        mdm_jax.sweep(
            patch_network, images, NUMBERS, on_progress=stop_after(2), **arguments
        )
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(kept) == 2
    told = []
    points = [{"schedule": "independent"}, *reversed(NUMBERS), NUMBERS[0]]
    result = mdm_jax.sweep(
        patch_network, images, points, on_progress=told.append, **arguments
    )
    assert told == [3, 4, 5]  # two of five are there, one of these twice
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    order = [3, 2, 1, 0, 0]
    for metric in ("area", "inside", "seen"):
        np.testing.assert_array_equal(result.values(metric), swept.values(metric)[order])
    np.testing.assert_array_equal(
        result.scores[1].per_image("seen:test"), swept.scores[2].per_image("seen:test")
    )
    changes = {
        "base": dataclasses.replace(BASE, steps=2),
        "metrics": METRICS[:1],
        "key": 1,
        "object_masks": None,
        "node": "logit",
    }
    for name, value in changes.items():
        others = {"metrics": (AREA,)} if name == "object_masks" else {}
        with pytest.raises(
            InputError, match=r"holds a sweep made with other settings \(.*->"
        ):
            mdm_jax.sweep(
                patch_network, images, NUMBERS, **(arguments | others | {name: value})
            )
    with pytest.raises(InputError, match=r"images.pixels"):
        mdm_jax.sweep(patch_network, images[::-1].copy(), NUMBERS, **arguments)
    with pytest.raises(InputError, match=r"network.program"):
        mdm_jax.sweep(
            lambda images: 2 * patch_network(images), images, NUMBERS, **arguments
        )


def test_damage_and_strange_folders_are_told(images, masks, tmp_path, monkeypatch):
    arguments = {
        "base": BASE,
        "metrics": METRICS,
        "object_masks": masks,
        "out": tmp_path / "sweep",
    }
    mdm_jax.sweep(patch_network, images, NUMBERS, **arguments)
    path = next(
        tmp_path.rglob(f"{point(NUMBERS[0], BASE, 'probability').identity}.parquet")
    )
    one = point(NUMBERS[0], dataclasses.replace(BASE, patience=7), "probability")
    with pytest.raises(
        InputError, match=r"meant another config \(config.patience 5 -> 7\)"
    ):
        store.PointStore(tmp_path / "sweep").read(one)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="is damaged: remove it"):
        mdm_jax.sweep(patch_network, images, NUMBERS, **arguments)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files, such as thesis\.tex"):
        mdm_jax.sweep(
            patch_network, images, NUMBERS, **(arguments | {"out": tmp_path / "other"})
        )
    assert [
        each.name for each in (tmp_path / "other").iterdir() if each.name != ".lock"
    ] == ["thesis.tex"]


@pytest.mark.slow
def test_a_point_that_fails_is_a_row_with_a_note(images, tmp_path):
    huge = mdm_jax.term(lambda view: 1e38 * view.mask.mean(), 0.0, name="huge")
    points = [{}, {"objective.huge": 1e3}, {"node": "logit"}, {"objective.huge": 1e-36}]
    # in the default schedule only proportions of the terms count, and nothing is huge
    joint = dataclasses.replace(PRESETS["fast-2026-11"], sizes=(4, 8), steps=3)
    base = dataclasses.replace(joint, objective=(*joint.objective, huge))
    arguments = {"base": base, "metrics": (AREA,), "out": tmp_path / "sweep"}
    for _ in range(2):  # computed, then read
        result = mdm_jax.sweep(patch_network, images, points, 1, **arguments)
        assert result.notes[0] == ""
        assert result.notes[1] == "outputs or gradients were not finite for any image"
        assert (
            result.notes[2]
            == "the activation was the same as on the fill alone for every image"
        )
        assert np.isfinite(result.values("area")).tolist() == [True, False, False, True]
        assert sorted(result.rank()) == [0, 3]
        assert result.table()["note"].to_pylist() == result.notes
        assert result.table()["rank"].to_pylist()[1:3] == [None, None]
        kept = [each.diagnostics["kept_area"].mean() for each in result.outcomes]
        assert kept[3] != kept[0]  # the term of one's own is at work


def test_table_has_settings_values_intervals_and_rank(swept):
    table = swept.table({"inside": 1.0, "area": -1.0})
    assert table.column_names == [
        *(
            "point",
            "learning_rate",
            "objective.area",
            "tolerance",
            "start",
            "schedule",
            "evaluations",
            "forwards",
            "kept_area",
        ),
        *(f"{metric.id}{end}" for metric in METRICS for end in ("", "_low", "_high")),
        *("quality", "quality_low", "quality_high", "rank", "front", "note"),
    ]
    assert table["learning_rate"].to_pylist() == [0.1, 0.5, None, None]
    np.testing.assert_array_equal(table["area:test"], swept.values("area"))
    order = np.argsort(table["rank"].to_numpy())
    np.testing.assert_array_equal(order, swept.rank({"inside": 1.0, "area": -1.0}))
    low, value, high = (
        table[f"area:test{end}"].to_numpy() for end in ("_low", "", "_high")
    )
    assert (low < value).all()
    assert (value < high).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"objective.are": 1}, "did you mean 'area'"),
        ({"objective.area": "x"}, "write a number"),
        ({"objective.area": -1}, "not negative"),
        ({"learning_rate": -1}, r"the point \(learning_rate=-1\) cannot be"),
        ({"steps": 2.5}, "write a whole number"),
        ({"preset": "slow"}, "unknown preset 'slow'"),
        ({"node": 3}, "write a name in quotes"),
        ({"node": "logi"}, "did you mean 'logit'"),
        ({"node": "similarity"}, "is of prototypes"),
        ({"fill": "blurr"}, "did you mean 'blur'"),
        ({"sizes": [4, 8], "stack_weights": [1.0]}, "1 stack_weights for 2 sizes"),
        ({"fill": [0.5, 0.5]}, r"the point \(fill=0.5/0.5\) cannot be: the fill has shape"),
    ],
)
def test_points_that_cannot_be_stop_before_anything_runs(
    images, settings, sentence, tmp_path
):
    with pytest.raises(InputError, match=sentence):
        mdm_jax.sweep(
            patch_network,
            images,
            [{}, settings],
            base=BASE,
            metrics=(AREA,),
            out=tmp_path / "sweep",
        )
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"points": []}, "points are no list"),
        ({"metrics": ()}, "no metrics"),
        ({"metrics": "insertoin"}, "did you mean"),
        ({"metrics": (INSIDE,)}, "give masks or boxes"),
        ({"images": np.zeros((0, 32, 32, 3), np.float32)}, "the batch is empty"),
        ({"base": "slow"}, "unknown preset"),
        ({"ids": [1]}, "1 ids for 3 images"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"targets": 5}, "out of range"),
        ({"key": -1}, "the seed is -1"),
    ],
)
def test_bad_input_of_a_sweep(images, changed, sentence):
    arguments = {
        "images": images,
        "points": [{}],
        "base": BASE,
        "metrics": (AREA,),
    } | changed
    with pytest.raises(InputError, match=sentence):
        mdm_jax.sweep(
            patch_network, arguments.pop("images"), arguments.pop("points"), **arguments
        )
