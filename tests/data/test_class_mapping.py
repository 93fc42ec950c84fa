"""Which class of a network a folder's class is, and what is said where names do not tell."""

import json

import numpy as np
import PIL.Image
import pytest

from mdm_jax import DataSpec, InputError
from mdm_jax.data.class_mapping import class_numbers

DIGITS = tuple(map(str, range(5)))


@pytest.mark.parametrize(
    ("data", "network", "numbers", "said"),
    [
        # By name: all of them, or some that are there.
        (("0", "2"), DIGITS, [0, 2], None),
        (("dog", "cat"), ("cat", "dog", "fox"), [1, 0], None),
        # Counted from 1, as folders often are: the order of the training, never one too high.
        (("1", "2", "3", "4", "5"), DIGITS, [0, 1, 2, 3, 4], "1 is class 0, '0'"),
        (("1", "10", "2", "3", "4"), DIGITS, [0, 1, 2, 3, 4], "1 is class 0"),
        (("1", "2", "3"), ("cat", "dog", "fox"), [0, 1, 2], "1 is class 0, 'cat'"),
        # Counted from elsewhere, and fewer: nobody knows.
        (("1", "5"), DIGITS, [-1, -1], None),
        (("0", "1", "7"), DIGITS, [0, 1, -1], None),
        (("3", "9"), ("cat", "dog", "fox"), [-1, -1], None),
        # Numbers of classes that have names.
        (("0", "2"), ("cat", "dog", "fox"), [0, 2], "2 is its class 2, 'fox'"),
        (("0", "1"), ("cat", "dog"), [0, 1], None),
        (("n1", "n2"), ("cat", "dog"), [0, 1], "n1 is class 0, 'cat'"),
        (
            ("cat", "lorry"),
            ("cat", "dog"),
            [0, -1],
            r"1 of the data's 2 classes .* \(lorry\)",
        ),
    ],
)
def test_what_is_not_by_name_is_said(data, network, numbers, said, recwarn):
    if said is None:
        assert class_numbers(data, network).tolist() == numbers
        assert not recwarn
        return
    with pytest.warns(UserWarning, match=said):
        assert class_numbers(data, network).tolist() == numbers


@pytest.fixture
def numbered(tmp_path):
    """Folders 1, 10 and 2."""
    for name in ("1", "2", "10"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / "photos" / name / "a.png")
    return f"folder:{tmp_path / 'photos'}"


def test_a_person_can_say_which_class_is_which(numbered, tmp_path):
    network = ("cat", "dog", "fox")

    def numbers(classes, data=numbered):
        spec = DataSpec(data=data, split="all", classes=classes)
        return class_numbers(spec.open().class_names, network).tolist()

    assert numbers("cat, fox, dog") == [0, 2, 1]
    with pytest.warns(UserWarning, match="1 is its class 1"):
        assert numbers("0,2,1") == [0, 2, 1]
    table = tmp_path / "classes.json"
    table.write_text(json.dumps({"2": "dog", "10": "fox", "1": "cat"}), "utf-8-sig")
    assert numbers(str(table)) == [0, 2, 1]
    table.write_text(json.dumps({"11": "dog"}))
    for classes, sentence in [
        ("cat,dog", r"--classes names 2 classes, and .* has 3 \(1, 10, 2\)"),
        (str(table), "must give classes of .* a class of the network"),
        (str(tmp_path / "none.json"), "cannot be read as JSON"),
    ]:
        with pytest.raises(InputError, match=sentence):
            numbers(classes)


def test_what_a_source_does_not_have_cannot_be_said(tmp_path):
    with pytest.raises(
        InputError, match="digits has no classes to say: leave --classes out"
    ):
        DataSpec(classes=",".join(map(str, np.arange(10)))).open()
    with pytest.raises(InputError, match="digits has no object values to say"):
        DataSpec(object_values="3").open()
