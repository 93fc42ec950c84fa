"""Points of a sweep: axes, draws, and a point's config as a file."""

import dataclasses
import tomllib

import numpy as np
import optax
import pytest
from sklearn.model_selection import ParameterGrid

from mdm_jax import InputError, MDMConfig, config_files, fills
from mdm_jax.config import PRESETS
from mdm_jax.sweeps import export_preset, grid, sample
from mdm_jax.sweeps.points import point

BASE = MDMConfig(sizes=(4, 8), steps=3)


def test_grid_and_sample():
    assert grid({"steps": [1, 2], "fill": ["mean", "blur"]}) == [
        {"steps": steps, "fill": fill} for steps in (1, 2) for fill in ("mean", "blur")
    ]
    axes = {
        "learning_rate": {"low": 0.01, "high": 1.0, "log": True},
        "steps": {"low": 3, "high": 6},
        "objective.area": {"low": 1, "high": 2},
        "fill": ["mean", "blur"],
    }
    drawn = sample(axes, 400, seed=1)
    assert drawn[:10] == sample(axes, 10, seed=1) != sample(axes, 10, seed=2)
    rates = np.asarray([each["learning_rate"] for each in drawn])
    assert rates.min() >= 0.01
    assert rates.max() <= 1.0
    assert 0.4 < np.mean(rates < 0.1) < 0.6  # evenly in the logarithm
    assert {each["steps"] for each in drawn} == {3, 4, 5, 6}
    assert all(
        type(each["steps"]) is int and type(each["objective.area"]) is float
        for each in drawn
    )
    assert all(rate == float(f"{rate:.4g}") for rate in rates)
    assert {each["fill"] for each in drawn} == {"mean", "blur"}
    assert len({point(each, BASE, "probability").identity for each in drawn}) > 390


def test_a_grid_has_the_points_of_scikit_learn_in_the_order_of_the_axes():
    axes = {"steps": [1, 2, 3], "fill": ["mean", "blur"], "learning_rate": [0.1]}
    ours, theirs = grid(axes), list(ParameterGrid(axes))
    by_settings = sorted(theirs, key=lambda each: (each["steps"], each["fill"] == "blur"))
    assert ours == by_settings
    assert ours != theirs  # which has its axes in alphabetical order


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: grid({}), "there are no axes"),
        (lambda: grid({"steps": []}), "the axis steps is"),
        (lambda: grid({"fill": "mean"}), "the axis fill is 'mean': give a list"),
        (
            lambda: grid({"steps": {"low": 1, "high": 2}}),
            "is a range, which has no values for a grid",
        ),
        (lambda: grid(dict.fromkeys("abcdef", range(10))), "make 1000000 points"),
        (lambda: sample({"steps": [1]}, 0), "count is 0"),
        (lambda: sample({"steps": [1]}, -1), "count is -1"),
        (lambda: sample({"steps": [1]}, 2, seed=-1), "the seed is -1"),
        (lambda: sample({"steps": {"low": 1, "hihg": 2}}, 1), "did you mean 'high'"),
        (lambda: sample({"steps": {"low": 1}}, 1), "give its numbers low and high"),
        (lambda: sample({"steps": {"low": 3, "high": 1}}, 1), "low may not exceed high"),
        (
            lambda: sample({"start": {"low": 0, "high": 1, "log": True}}, 1),
            "a logarithm needs low above 0",
        ),
    ],
)
def test_axes_that_cannot_be(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


SETTINGS = [
    {},
    {
        "learning_rate": 1,
        "sizes": [8, [4, 6]],
        "fill": ["blur", "mean"],
        "optimizer": "sgd",
        "objective.total_variation": 2,
    },
    {
        "preset": "paper",
        "steps": 7,
        "stack_weights": [1, 2.5],
        "sizes": (4, 8),
        "redraw_fill": True,
    },
    {"fill": np.asarray([0.5, 0.1, 0.2]), "start": "random", "tolerance": np.float32(0.25)},
    {
        "schedule": "joint",
        "smoothing": None,
        "coarse_to_fine": 0.25,
        "area_budget": "none",
    },
    {"map": "mask", "kept_share": 0.9, "rate_power": 0, "weight_rate": 1.5},
    {
        "schedule": "joint",
        "objective": {"kl": 1, "area": 0.1},
        "objective.area": 0.3,
        "until_converged": True,
        "patience": 3,
    },
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("base", list(PRESETS))
def test_the_winner_is_a_file_that_config_takes(settings, base, tmp_path):
    one = point(settings, PRESETS[base], "logits")
    path = export_preset.save(one, tmp_path / "winner.toml", ['the "best"\nof all'])
    text = path.read_text()
    assert text.startswith('# the "best"\n# of all\n# use it with the node logits\n')
    read = config_files.build(MDMConfig, tomllib.loads(text), base=PRESETS["fast"])
    assert export_preset._is_same(read, one.config)
    assert read.objective == one.config.objective
    assert not export_preset._is_same(
        dataclasses.replace(read, learning_rate=0.123), one.config
    )


def test_what_no_file_can_say_is_told():
    for name, value in (
        ("optimizer", lambda rate: optax.sgd(rate)),
        ("fill", fills.blur(3.0)),
        ("start", np.ones((4, 4))),
    ):
        one = point({}, dataclasses.replace(BASE, **{name: value}), "probability")
        with pytest.raises(InputError, match=f"has a {name} that no file can say"):
            export_preset.to_settings(one)
