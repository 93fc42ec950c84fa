"""Whatever stands in a file, a reader gives it or raises InputError.

`experiments/robustness/fuzz_readers.py` does the same at length."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.robustness.fuzz_readers import READERS, outcome, prepare


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("stored")
    prepare(root)
    return root


def test_whole_files_are_read(stored):
    for reader in READERS.values():
        reader.read(stored)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(stored, seed):
    rng = random.Random(seed)
    for name, reader in READERS.items():
        assert outcome(reader, stored, rng) in ("read", "refused"), name
