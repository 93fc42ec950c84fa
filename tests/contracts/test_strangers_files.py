"""Whatever stands in a file, a reader gives it or raises InputError.

`experiments/robustness/fuzz_readers.py` does the same at length."""

import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments.robustness.fuzz_readers import READERS, outcome, prepare
from mdm_jax import InputError
from mdm_jax.cli import report
from mdm_jax.cli.main import main


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("stored")
    prepare(root)
    return root


def test_whole_files_are_read(stored):
    for reader in READERS.values():
        reader.read(stored)


# the same damages each time: a suite finds the same today and tomorrow
@settings(max_examples=6, deadline=None, derandomize=True)
@example(seed=279675)  # an error of several lines
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(stored, seed):
    rng = random.Random(seed)
    for name, reader in READERS.items():
        assert outcome(reader, stored, rng) in ("read", "refused"), name


@pytest.mark.parametrize(
    "request_", [{"data": "digits"}, {"data": "digits", "preprocessing": {"size": 7}}]
)
@pytest.mark.parametrize("verb", [["run", "verify"], ["evaluate"]])
def test_half_a_request(stored, tmp_path, capsys, request_, verb):
    """An older run, whose request has no checksum, edited by a stranger."""
    path = stored / "run/run.json"
    whole = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(whole) | {"request": request_}))
        out = [] if verb[-1] == "verify" else ["--out", str(tmp_path)]
        assert main([*verb, str(stored / "run"), *out]) == 2
    finally:
        path.write_text(whole)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "recorded", [{}, {"size": 7}, {"x": 1}, {"channels": 3, "size": [10**9, 1]}]
)
def test_a_preprocessing_of_a_stranger(recorded):
    with pytest.raises(
        InputError, match="RUN is damaged, its request has the preprocessing"
    ):
        report._preprocessing(recorded, "RUN")
