"""Random changes of training images: what each does, and that a draw is reproducible."""

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdm_jax import InputError
from mdm_jax.data import Augment
from mdm_jax.data.augment import _corners, _homography, _skew

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
    st.builds(
        Augment,
        crop=st.floats(0.05, 1),
        flip=st.booleans(),
        color=st.floats(0, 0.9),
        shift=st.floats(0, 0.5),
        rotation=st.floats(0, 45),
        skew=st.floats(0, 0.5),
        shear=st.floats(0, 45),
    ),
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
    assert all(
        np.array_equal(outcome, RAMP) or flipped
        for outcome, flipped in zip(outcomes, mirrored)
    )
    assert 70 < sum(mirrored) < 130


def test_crop_keeps_the_asked_share_at_every_place():
    """The ramp's range in both directions says how much of each side was kept."""
    shares, lefts = [], []
    for seed in range(200):
        outcome = drawn(Augment(crop=0.25), seed)
        width, height = (
            np.ptp(outcome[..., 0]) / np.ptp(RAMP[..., 0]),
            np.ptp(outcome[..., 1]) / np.ptp(RAMP[..., 1]),
        )
        shares.append(width * height)
        lefts.append(outcome[..., 0].min() / 240)
    assert 0.2 < min(shares) < 0.35
    assert max(shares) > 0.85
    assert np.std(lefts) > 0.05


def test_crop_of_a_large_photograph_is_not_enlarged_again():
    large = PIL.Image.new("RGB", (1600, 1200))
    assert Augment(crop=0.5)(large, np.random.default_rng(0)).size == (683, 512)


def test_shift_moves_the_image_and_mirrors_what_comes_in():
    moved = {
        tuple(map(tuple, drawn(Augment(shift=0.2), seed)[0, :, :1])) for seed in range(30)
    }
    assert len(moved) > 5
    outcome = drawn(Augment(shift=0.5), 1)[..., 0]
    steps = np.diff(outcome[0])
    assert set(np.abs(steps)) <= {0, 6}  # neighbors stay neighbors, one turn at the mirror
    assert np.ptp(outcome[0]) >= 6 * 19


def test_color_changes_brightness_contrast_and_saturation():
    outcomes = np.stack([drawn(Augment(color=0.4), seed) for seed in range(40)])
    assert outcomes.mean((1, 2, 3)).std() > 5
    assert outcomes.std((1, 2, 3)).std() > 3
    saturation = np.abs(outcomes[..., 0] - outcomes[..., 1]).mean((1, 2))
    assert saturation.std() > 3


def test_one_setting_does_not_change_what_another_draws():
    plain, colored = drawn(Augment(shift=0.3), 5), drawn(Augment(shift=0.3, flip=True), 5)
    assert np.array_equal(plain, colored) or np.array_equal(plain[:, ::-1], colored)
    rng, same = (np.random.default_rng(5) for _ in range(2))
    Augment()(IMAGE, rng)
    Augment(rotation=15.0, skew=0.2, shear=10.0)(IMAGE, same)
    assert rng.uniform() == same.uniform()


BENDS = {"rotation": 45.0, "skew": 0.5, "shear": 45.0}


@pytest.mark.parametrize("size", [(40, 30), (20, 90)])
@pytest.mark.parametrize("bend", BENDS)
def test_no_border_comes_in(bend, size):
    white = PIL.Image.new("L", size, 255)
    assert all(
        drawn(Augment(**{bend: BENDS[bend]}), seed, white).min() == 255
        for seed in range(60)
    )


def slopes(pixels):
    """Of the ramp's gray levels, at the center: how the first channel changes along x and y, and
    the second."""
    middle = pixels[8:-8, 8:-8].astype(float)
    return np.asarray(
        [
            np.gradient(middle[..., channel], axis=axis).mean()
            for channel in (0, 1)
            for axis in (1, 0)
        ]
    )


def test_a_turn_turns_and_a_shear_shears_by_at_most_what_is_asked():
    """The ramp rises along x in its first channel and along y in its second: their directions say
    how it was bent."""
    still = slopes(RAMP)
    assert still[1] == still[2] == 0
    turns, shears = [], []
    for seed in range(60):
        a, b, c, d = slopes(drawn(Augment(rotation=15.0), seed)) / still[[0, 0, 3, 3]]
        turns.append(np.degrees(np.arctan2(b, a)))
        assert turns[-1] == pytest.approx(-np.degrees(np.arctan2(c, d)), abs=2)
        assert np.hypot(a, b) < 1.05  # enlarged, never shrunk
        a, b, c, d = slopes(drawn(Augment(shear=10.0), seed)) / still[[0, 0, 3, 3]]
        assert min(abs(b), abs(c)) < 0.02  # along one side only
        shears.append(np.degrees(np.arctan(max(b / a, c / d, key=abs))))
    for angles, most in ((turns, 15), (shears, 10)):
        assert most * 0.7 < max(angles) < most + 1.5
        assert -most * 0.7 > min(angles) > -most - 1.5


def test_a_skew_moves_the_corners_of_one_side_apart_or_one_corner():
    moved = {}
    for seed in range(80):
        corners = _skew((40, 30), 0.2, 1.0, seed / 80) - _corners((40, 30))
        assert np.abs(corners).max() == pytest.approx(8)
        assert (
            np.sign(corners[corners != 0])
            == np.sign(_corners((40, 30)) - [20, 15])[corners != 0]
        ).all()
        moved[tuple(map(tuple, corners != 0))] = int((corners != 0).sum())
    assert sorted(moved.values()) == [1] * 8 + [2] * 4
    assert [_skew((40, 30), 0.2, 1.0, at / 100).sum() for at in (74, 76)] != [140, 140]


@pytest.mark.parametrize("seed", range(20))
def test_the_homography_is_opencvs(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 600, 2))
    corners = _corners((height, width))
    places = (corners + rng.uniform(-5, 5, (4, 2))).astype(np.float32)
    found = _homography(places.astype(np.float64), corners)
    expected = cv2.getPerspectiveTransform(places, corners.astype(np.float32))
    np.testing.assert_allclose([*found, 1], expected.reshape(-1), rtol=1e-5, atol=1e-9)


def test_an_image_is_bent_in_one_way_only():
    every = Augment(rotation=15.0, skew=0.2, shear=10.0)
    alone = {name: Augment(**{name: getattr(every, name)}) for name in BENDS}
    found = []
    for seed in range(60):
        outcome = drawn(every, seed)
        found += [
            name
            for name, augment in alone.items()
            if np.array_equal(outcome, drawn(augment, seed))
        ]
    assert len(found) == 60
    assert min(found.count(name) for name in BENDS) > 10


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"crop": 0.0}, "crop is 0.0"),
        ({"crop": 1.5}, "above 0, at most 1"),
        ({"color": 1.0}, "color is 1.0"),
        ({"shift": 0.6}, "shift is 0.6"),
        ({"crop": float("nan")}, "crop is nan"),
        ({"rotation": 46.0}, "rotation is 46.0: give degrees from 0"),
        ({"shear": -1.0}, "shear is -1.0"),
        ({"skew": 0.6}, "skew is 0.6"),
    ],
)
def test_settings_out_of_range(setting, sentence):
    with pytest.raises(InputError, match=sentence):
        Augment(**setting).check()
