"""Presets by name wherever a name is taken, files of older defaults, and schedules' own limits."""

from dataclasses import replace
from functools import partial

import numpy as np
import optax
import pytest
from conftest import patch_network

from mdm_jax import InputError, MDMConfig, config_files, explain, methods
from mdm_jax.cli.main import load_verb
from mdm_jax.cli.parse import parse
from mdm_jax.config import PRESETS, preset

FORMER = ("fast-2026-11", "best-2026-11")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_known_by_its_name_everywhere(name):
    config = PRESETS[name]
    config.check()
    assert preset(name) == config
    assert methods.configure(f"mdm:preset={name}").config == config
    told = parse(load_verb("explain"), "mdm explain", ["photo.png", "--preset", name])
    (question,) = told.questions()
    assert question.method.config == config


def test_the_default_is_the_preset_fast():
    assert MDMConfig() == PRESETS["fast"]
    assert methods.configure("mdm").with_default_config().config == PRESETS["fast"]


@pytest.mark.parametrize("name", FORMER)
def test_former_presets_are_what_they_were(name):
    """Written out as they stood in November 2026."""
    former = PRESETS[name]
    long = name == "best-2026-11"
    assert (former.schedule, former.parametrization) == ("joint", "sigmoid")
    assert not former.shows_evidence
    assert (former.start, former.coarse_to_fine) == (0.9, 0.5)
    assert former.fill == (("blur", "mean", "noise") if long else "blur")
    assert former.optimizer is optax.adam
    assert (former.steps, former.learning_rate) == ((150, 0.3) if long else (15, 1.0))
    weights = {each.name: each.weight for each in former.objective}
    assert weights == {"lost_share": 1.0, "area": 30.0}


def test_a_former_preset_runs_by_name(images):
    by_name, by_config = (
        explain(patch_network, images[:1], targets=0, config=config)
        for config in ("fast-2026-11", PRESETS["fast-2026-11"])
    )
    np.testing.assert_array_equal(by_name.saliency, by_config.saliency)
    assert by_name.info.evaluations.tolist() == [15]
    assert by_name.info.forwards.tolist() == [3]
    assert by_name.evidence is None
    assert by_name.ranking is None


FORMER_FILE = """
schedule = "joint"
parametrization = "sigmoid"
start = 0.9
coarse_to_fine = 0.5
fill = "blur"
objective = { lost_share = 1.0, area = 30.0 }
optimizer = "adam"
learning_rate = 1.0
steps = 15
"""


def test_a_file_with_the_former_default_means_what_it_did(tmp_path):
    """The file says no map, for there was no choice of it."""
    file = tmp_path / "winner.toml"
    file.write_text(FORMER_FILE)
    assert config_files.load(MDMConfig, file) == PRESETS["fast-2026-11"]
    written = methods.configure("mdm:schedule=independent,steps=3").config
    assert written.schedule == "independent"
    assert not written.shows_evidence
    with pytest.raises(InputError, match="the map evidence needs the schedule sequence"):
        methods.configure("mdm:schedule=joint,map=evidence")


@pytest.mark.parametrize(
    ("base", "choices", "sentence"),
    [
        (
            "fast-2026-11",
            {"map": "evidence"},
            "the map evidence needs the schedule sequence, and schedule is joint: choose the map"
            " mask",
        ),
        ("fast", {"coarse_to_fine": 0.5}, "coarse_to_fine is for the schedules joint and"),
        ("fast", {"area_budget": 0.1}, "area_budget is for the schedules joint and"),
        (
            "fast",
            {"until_converged": True},
            "until_converged is for the schedules joint and",
        ),
        *(
            ("fast", {"optimizer": each}, "takes no optimizer that evaluates by itself or")
            for each in (
                optax.lbfgs,
                optax.lbfgs(),
                partial(optax.lbfgs, memory_size=3),
                optax.polyak_sgd,
                optax.contrib.schedule_free_adamw,
                optax.contrib.schedule_free_sgd(0.1),
            )
        ),
        ("fast", {"kept_share": 1.2}, "kept_share is 1.2: give a share, from 0 to 1"),
        ("fast", {"kept_share": -0.1}, "kept_share is -0.1: give finite numbers"),
        ("fast", {"weight_rate": float("nan")}, "weight_rate is nan: give finite numbers"),
        ("fast", {"rate_power": -1.0}, "rate_power is -1.0: give finite numbers"),
    ],
)
def test_what_a_schedule_cannot_have_is_a_sentence(base, choices, sentence):
    with pytest.raises(InputError) as error:
        replace(PRESETS[base], **choices).check()
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd, optax.adam, optax.lion, optax.adamw, optax.adam(0.3)]
)
def test_other_optimizers_are_for_every_schedule(optimizer):
    replace(PRESETS["fast"], optimizer=optimizer).check()
