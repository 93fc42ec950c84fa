"""What identifies settings in stored folders, and how those of older versions are read."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdm_jax import PRESETS, InputError, MDMConfig, fills, objectives, renamed_settings
from mdm_jax.renamed_settings import Renamed
from mdm_jax.runs.description import fingerprint
from mdm_jax.runs.store import open_store
from mdm_jax.storage import part_names, workspace
from mdm_jax.storage.differences import differences, flat
from mdm_jax.storage.identity import LARGEST_LIST, function_checksum
from mdm_jax.storage.part_names import defaults_of, describe
from mdm_jax.storage.stored_format import FORMAT, upgrade


def build(scale):
    """A function that closes over a number."""

    def edges(view):
        return scale * view.mask.mean()

    return edges


def other():
    """Another function of the same name."""

    def edges(view):
        return jnp.max(view.mask)

    return edges


def test_a_config_is_ids_and_numbers():
    nesterov = partial(optax.sgd, momentum=0.9, nesterov=True)
    found = describe(dataclasses.replace(PRESETS["fast-2026-11"], optimizer=nesterov))
    assert json.loads(json.dumps(found)) == found
    assert found["objective"] == [
        {"name": "lost_share", "weight": 1.0},
        {"name": "area", "weight": 30.0},
    ]
    assert found["optimizer"] == "sgd(momentum=0.9, nesterov=true)"
    assert describe(PRESETS["fast-2026-11"])["optimizer"] == "adam"
    assert describe(MDMConfig())["optimizer"] == "sgd(momentum=0.9)"
    assert "<" not in json.dumps(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((4, (8, 6)), [4, [8, 6]]),
        (np.float32(0.5), 0.5),
        (jnp.asarray([0.25, 0.5]), [0.25, 0.5]),
        (fills.blur(3.0), "blur(sigma=3.0)"),
        (fills.mean(), "mean"),
        (optax.contrib.schedule_free_adamw, "schedule_free_adamw"),
        (objectives.removal(2.0), {"name": "removal", "weight": 2.0}),
        (objectives.term(objectives.mask_area, 2.0, "mine"), None),
    ],
)
def test_parts_describe_themselves(value, expected):
    expected = expected or {"name": "mine", "weight": 2.0, "function": "area"}
    assert describe(value) == expected


def test_a_renamed_function_is_the_same(monkeypatch):
    before = describe(PRESETS["fast-2026-11"])
    for function in (objectives.relative_drop, objectives.mask_area, optax.adam):
        monkeypatch.setattr(function, "__name__", "another")
        monkeypatch.setattr(function, "__qualname__", "another")
    assert describe(PRESETS["fast-2026-11"]) == before


def test_two_functions_of_one_name_differ():
    terms = [objectives.term(function) for function in (build(1.0), build(2.0), other())]
    found = [describe(each)["function"] for each in terms]
    assert len(set(found)) == 3
    assert all(each.startswith("edges@") for each in found)
    assert describe(objectives.term(build(1.0))) == describe(terms[0])
    assert function_checksum(lambda view: 1.0) != function_checksum(lambda view: 2.0)  # fmt: skip


def test_objects_that_are_called_differ_by_what_they_hold():
    class Margin:
        def __init__(self, over):
            self.over = over

        def __call__(self, outputs, target):
            return outputs[target] - outputs[self.over]

    @dataclasses.dataclass(frozen=True)
    class Other:
        over: int

        def __call__(self, outputs, target):
            return outputs[target]

    assert describe(Margin(1)) == describe(Margin(1))
    assert describe(Margin(1)) != describe(Margin(2))
    assert describe(Other(1))["over"] == 1
    assert describe(Other(1)) != describe(dataclasses.replace(Other(1), over=2))
    assert describe(optax.adam(0.1)) == describe(optax.adam(0.1))
    assert describe(optax.adam(0.1)) != describe(optax.adam(0.2))


def test_a_large_array_is_a_checksum():
    image = np.linspace(0, 1, 2 * LARGEST_LIST, dtype=np.float32).reshape(2, -1)
    found = describe(image)
    assert found.startswith(f"float32[2,{LARGEST_LIST}]@")
    assert describe(image.astype(np.float64)) == found
    assert describe(image + 1) != found
    assert upgrade({"fill": image.tolist()}, {"fill": found}, {}) == {"fill": found}


def test_every_part_has_one_id():
    ids = part_names.part_names()
    for table in (objectives.TERMS, fills.FUNCTIONS):
        assert {
            ids[function]: function for function in table.values()
        }.keys() == table.keys()


OLD = {
    "config.parametrisation": "sigmoid",
    "config.fill": ["grey", "blur"],
    "config.start": "centre",
    "config.optimizer": "functools.partial(<function sgd>, momentum=0.9, nesterov=True)",
    "config.objective": [
        "Term(weight=1.0, name='lost_share', function=<function lost_share>, needs_rest=False)",
        "Term(weight=0.5, name='edges', function=<function build.<locals>.edges>, needs_rest=True)",
    ],
    "node": "normalised_similarity",
}
NEW = {
    "config.parametrization": "sigmoid",
    "config.fill": ["gray", "blur"],
    "config.start": "center",
    "config.optimizer": "sgd(momentum=0.9, nesterov=true)",
    "config.objective": [
        {"name": "lost_share", "weight": 1.0},
        {
            "name": "edges",
            "weight": 0.5,
            "function": "edges@01234567",
            "needs_complement": True,
        },
    ],
    "node": "normalized_similarity",
}


def test_format_1_is_translated():
    assert differences(upgrade(OLD, NEW, {}), NEW) == []
    assert upgrade(NEW, NEW, {}) == NEW


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "config.optimizer",
            "adam",
            '"functools.partial(<function sgd>, momentum=0.9, nesterov... -> "adam"',
        ),
        ("config.optimizer", "sgd(momentum=0.5, nesterov=true)", "-> "),
        (
            "config.objective",
            [{"name": "lost_share", "weight": 1.0}],
            "edges.weight 0.5 -> none",
        ),
        ("config.objective", NEW["config.objective"][::-1], "objective.order"),
        ("config.fill", "blur", 'config.fill ["gray", "blur"] -> "blur"'),
    ],
)
def test_what_differs_is_told_after_a_translation(name, value, message):
    now = NEW | {name: value}
    assert message in ", ".join(differences(upgrade(OLD, now, {}), now))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_of_format_1_is_read_as_numbers(dtype):
    color = np.asarray([0.5, 0.3, 1.0], dtype)
    now = {"config.fill": describe(color)}
    assert upgrade({"config.fill": str(color)}, now, {}) == now
    assert upgrade({"config.fill": "[0.5 0.3 0.9]"}, now, {}) != now


def test_a_row_renames_a_setting_of_one_method(monkeypatch):
    rows = (*renamed_settings.SETTINGS, Renamed("samples", "num_samples", "rise"))
    monkeypatch.setattr(renamed_settings, "SETTINGS", rows)
    before = {"method": "rise", "config.samples": 9}
    assert upgrade(before, {}, {}) == {"method": "rise", "config.num_samples": 9}
    before = {"method": "occlusion", "config.samples": 9}
    assert upgrade(before, {}, {}) == before
    assert renamed_settings.current({"samples": 9}, "rise") == {"num_samples": 9}


@dataclasses.dataclass(frozen=True)
class Before:
    """A config, before it had a second field."""

    steps: int = 3


@dataclasses.dataclass(frozen=True)
class After(Before):
    """The same config, with one field more."""

    momentum: float = 0.9
    terms: tuple = (objectives.area(2.0),)


def test_a_new_setting_at_its_default_is_no_change(tmp_path):
    def begin(config):
        record = {"config": describe(config)}
        workspace.record_settings(
            tmp_path,
            "settings.json",
            record,
            "maps",
            defaults=defaults_of(config, "config."),
        )

    begin(Before())
    (tmp_path / "maps-00000.npz").write_bytes(b"")
    text = (tmp_path / "settings.json").read_text()
    assert json.loads(text) == {"format": FORMAT, "config.steps": 3}
    begin(After())
    assert (tmp_path / "settings.json").read_text() == text
    with pytest.raises(InputError, match=r"\(config.momentum 0.9 -> 0.5\)"):
        begin(After(momentum=0.5))


def test_functions_have_no_place_in_memory():
    found = [
        describe(MDMConfig(objective=(objectives.term(build(1.0)),))) for _ in range(2)
    ]
    assert dict(flat(found[0])) == dict(flat(found[1]))
    assert "0x" not in json.dumps(found)


def test_a_newer_format_is_a_change(tmp_path):
    description = {"format": FORMAT + 1, "layout": {"items": 1, "targets": 1, "chunk": 1}}
    description |= {"settings": {}}
    (tmp_path / "run.json").write_text(json.dumps(description))
    changed = open_store(tmp_path).changes(description | {"format": FORMAT})
    assert changed == [f"format {FORMAT + 1} -> {FORMAT}"]
    assert fingerprint(description) != fingerprint(description | {"format": FORMAT})
