"""Random changes of training images: what each does, and that a draw is reproducible."""

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax import InputError
from mdm_jax.data import Augment

RAMP = np.zeros((30, 40, 3), np.uint8)
RAMP[..., 0] = np.arange(40) * 6  # brighter to the right
RAMP[..., 1] = np.arange(30)[:, None] * 8  # and downwards
IMAGE = PIL.Image.fromarray(RAMP)


def drawn(augment, seed, image=IMAGE):
    return np.asarray(augment(image, np.random.default_rng(seed)), np.int64)


def test_nothing_asked_changes_nothing():
    np.testing.assert_array_equal(drawn(Augment(), 3), RAMP)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(Augment, crop=st.floats(0.05, 1), flip=st.booleans(), colour=st.floats(0, 0.9), shift=st.floats(0, 0.5)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["RGB", "L"]),
)
def test_any_setting_is_reproducible_and_keeps_size_and_mode(augment, seed, mode):
    augment.check()
    image = IMAGE.convert(mode)
    first, again = (augment(image, np.random.default_rng(seed)) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert (first.size, first.mode) == (image.size, image.mode)


def test_flip_mirrors_half_of_the_images():
    outcomes = [drawn(Augment(flip=True), seed) for seed in range(200)]
    mirrored = [np.array_equal(outcome, RAMP[:, ::-1]) for outcome in outcomes]
    assert all(np.array_equal(outcome, RAMP) or flipped for outcome, flipped in zip(outcomes, mirrored))
    assert 70 < sum(mirrored) < 130


def test_crop_keeps_the_asked_share_at_every_place():
    """The ramp's range in both directions says how much of each side was kept."""
    shares, lefts = [], []
    for seed in range(200):
        outcome = drawn(Augment(crop=0.25), seed)
        width, height = np.ptp(outcome[..., 0]) / np.ptp(RAMP[..., 0]), np.ptp(outcome[..., 1]) / np.ptp(RAMP[..., 1])
        shares.append(width * height)
        lefts.append(outcome[..., 0].min() / 240)
    assert 0.2 < min(shares) < 0.35
    assert max(shares) > 0.85
    assert np.std(lefts) > 0.05


def test_crop_of_a_large_photograph_is_not_enlarged_again():
    large = PIL.Image.new("RGB", (1600, 1200))
    assert Augment(crop=0.5)(large, np.random.default_rng(0)).size == (683, 512)


def test_shift_moves_the_image_and_mirrors_what_comes_in():
    moved = {tuple(map(tuple, drawn(Augment(shift=0.2), seed)[0, :, :1])) for seed in range(30)}
    assert len(moved) > 5
    outcome = drawn(Augment(shift=0.5), 1)[..., 0]
    steps = np.diff(outcome[0])
    assert set(np.abs(steps)) <= {0, 6}  # neighbours stay neighbours, one turn at the mirror
    assert np.ptp(outcome[0]) >= 6 * 19


def test_colour_changes_brightness_contrast_and_saturation():
    outcomes = np.stack([drawn(Augment(colour=0.4), seed) for seed in range(40)])
    assert outcomes.mean((1, 2, 3)).std() > 5
    assert outcomes.std((1, 2, 3)).std() > 3
    saturation = np.abs(outcomes[..., 0] - outcomes[..., 1]).mean((1, 2))
    assert saturation.std() > 3


def test_one_setting_does_not_change_what_another_draws():
    plain, coloured = drawn(Augment(shift=0.3), 5), drawn(Augment(shift=0.3, flip=True), 5)
    assert np.array_equal(plain, coloured) or np.array_equal(plain[:, ::-1], coloured)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"crop": 0.0}, "crop is 0.0"),
        ({"crop": 1.5}, "above 0, at most 1"),
        ({"colour": 1.0}, "colour is 1.0"),
        ({"shift": 0.6}, "shift is 0.6"),
        ({"crop": float("nan")}, "crop is nan"),
    ],
)
def test_settings_out_of_range(setting, sentence):
    with pytest.raises(InputError, match=sentence):
        Augment(**setting).check()
