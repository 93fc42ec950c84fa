import numpy as np
import pytest

from mdm_jax import InputError
from mdm_jax.data import Digits, open_source
from mdm_jax.data.digits import _scans
from mdm_jax.metrics.objects import object_masks


def test_items_are_a_pure_function_of_split_and_index():
    source = Digits("test")
    for i in (7, 3):
        first, again = source[i], Digits("test")[i]
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.boxes, again.boxes)
        assert (first.id, first.label) == (again.id, again.label)
    assert not np.array_equal(Digits("train")[3].image, source[3].image)
    assert source[3].id == "digits/test/00003"


def test_items_do_not_drift():
    """The embedded weights and every quoted number rest on these scenes."""
    example = Digits("test")[0]
    assert (example.label, example.boxes.tolist()) == (5, [[52, 18, 64, 42]])
    assert example.image.mean() == pytest.approx(0.5045, abs=0.001)


def test_contract_of_an_example():
    for i in range(20):
        example = Digits("train")[i]
        assert example.image.shape == (64, 64, 3)
        assert example.image.dtype == np.float32
        assert 0 <= example.image.min() <= example.image.max() <= 1
        assert 0 <= example.label <= 9
        (box,) = example.boxes
        x0, y0, x1, y1 = map(int, box)
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 64
        outside = example.mask.copy()
        outside[y0:y1, x0:x1] = False
        assert example.mask.any()
        assert not outside.any()
        assert 20 * 0.4 <= y1 - y0 <= 32


def test_splits_share_no_scan():
    (train, _), (test, _) = _scans("train"), _scans("test")
    assert len(train) + len(test) == 1797
    seen = {scan.tobytes() for scan in train}
    assert not any(scan.tobytes() in seen for scan in test)


def test_digits_cover_about_six_percent():
    assert np.mean([Digits("test")[i].mask.mean() for i in range(60)]) == pytest.approx(
        0.06, abs=0.01
    )


def test_bad_requests():
    with pytest.raises(InputError, match="did you mean 'test'"):
        Digits("tset")
    with pytest.raises(IndexError, match="items 0 to 9999"):
        Digits("test")[10_000]


def test_several_digits_of_one_class_lie_apart_each_with_its_box():
    source = Digits("test", objects=2)
    assert source.name == "digits:2"
    assert source[3].id == "digits-2/test/00003"
    for i in range(20):
        example = Digits("train", objects=2)[i]
        first, second = object_masks(example.mask, example.boxes, example.mask.shape)
        assert not (first & second).any()
        np.testing.assert_array_equal(first | second, example.mask)
        assert min(first.sum(), second.sum()) > 40
        (x0, y0, x1, y1), (u0, v0, u1, v1) = example.boxes
        assert max(u0 - x1, x0 - u1, v0 - y1, y0 - v1) >= 2
    again = open_source("digits:2", "test")[7]
    np.testing.assert_array_equal(source[7].image, again.image)
    for text in ("digits:0", "digits:5"):
        with pytest.raises(InputError, match="give a number from 1 to 3"):
            open_source(text, "test")
    with pytest.raises(InputError, match="do not fit"):
        Digits("test", size=36, objects=3)[0]
