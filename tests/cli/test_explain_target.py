"""`mdm explain --target`: a class by its number or its name."""

import pytest

from mdm_jax import InputError
from mdm_jax.cli.explain_targets import find_class

NAMES = ("oystercatcher", "tabby cat", "Egyptian cat", "7", "crane", "crane")


@pytest.mark.parametrize(
    ("target", "expected"), [(2, 2), ("Egyptian cat", 2), ("TABBY CAT", 1), ("7", 3)]
)
def test_a_class_is_found(target, expected):
    assert find_class(target, NAMES) == expected


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (6, r"--target 6 is out of range: the network has 6 classes, 0 to 5"),
        (-1, r"--target -1 is out of range"),
        ("cat", r"no class 'cat': did you mean 'tabby cat' or 'Egyptian cat' or 'oyster"),
        ("zebra", r"no class 'zebra': give --target a number from 0 to 5"),
        (
            "crane",
            r"2 classes are called 'crane': give --target one of the numbers \[4, 5\]",
        ),
    ],
)
def test_what_is_no_class_is_a_sentence(target, sentence):
    with pytest.raises(InputError, match=sentence):
        find_class(target, NAMES)
