"""run.json from a stranger: wrong types, numbers beyond all bounds, and nesting without end."""

import json
from pathlib import Path

import pytest

from mdm_jax import InputError
from mdm_jax.runs.description import check_types

STORED = Path(__file__).parents[1] / "fixtures" / "stored"
KEPT = {name: (STORED / name / "run.json").read_text() for name in ("run", "run_own")}

EDITS = {
    "chunk": ({"layout": {"items": 6, "targets": 1, "chunk": 0}}, "its layout is"),
    "items": ({"layout": {"items": 10**18, "targets": 1, "chunk": 2}}, "its layout is"),
    "negative": ({"layout": {"items": -6, "targets": 1, "chunk": 2}}, "its layout is"),
    "text": (
        {"layout": {"items": "6", "targets": 1, "chunk": 2}},
        "layout.items is '6'",
    ),
    "more": (
        {"layout": {"items": 6, "targets": 1, "chunk": 2, "evil": 1}},
        "its layout is",
    ),
    "no layout": ({"layout": None}, "is damaged"),
    "list": ({"layout": [6, 1, 2]}, "is damaged"),
    "format": ({"format": "1"}, "format is '1'"),
    "settings": ({"settings": []}, "settings is []"),
    "classes": ({"classes": [1, 2]}, "classes is [1, 2]"),
    "request": ({"request": "digits"}, "is damaged"),
    "limit": ({"request": {"limit": "six"}}, "request.limit is 'six'"),
    "weights": ({"request": {"weights": ["a"]}}, "request.weights is ['a']"),
    "crop": (
        {"request": {"preprocessing": {"crop": "all"}}},
        "request.preprocessing.crop is 'all'",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_runs_wrote_is_accepted(name):
    check_types(json.loads(KEPT[name]), "run.json")


@pytest.mark.parametrize("case", EDITS)
def test_another_type_is_one_sentence(case):
    changed, sentence = EDITS[case]
    with pytest.raises(InputError) as error:
        check_types(json.loads(KEPT["run"]) | changed, "run.json")
    assert sentence in str(error.value)
    assert str(error.value).startswith("run.json is damaged")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[], "run", None, 7, {}])
def test_what_is_no_run_is_one_sentence(content):
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        check_types(content, "run.json")
