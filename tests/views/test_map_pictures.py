"""Maps on photographs: where they lie, what they say, and that nothing is cut or overlaps."""

import itertools

import numpy as np
import PIL.Image
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.types import REASONS, Status
from mdm_jax.views import map_pictures, panels
from mdm_jax.views.map_pictures import ShownMap, clip_outliers, paint, show_photograph

LONG = "a class with a name that is much longer than the picture below it is wide"


def preprocessing(size, crop=1.0, mode="center", channels=3):
    numbers = (0.5,) * channels
    return Preprocessing(channels, size, crop, "bilinear", numbers, numbers, mode)


def ramps(width, height):
    """A photograph whose red says how far right a pixel is, and whose green how far down."""
    across = np.linspace(0, 255, width)[None, :, None].repeat(height, axis=0)
    down = np.linspace(0, 255, height)[:, None, None].repeat(width, axis=1)
    pixels = np.concatenate([across, down, np.zeros_like(across)], axis=-1)
    return PIL.Image.fromarray(pixels.round().astype(np.uint8))


@pytest.mark.parametrize(
    ("original", "size", "crop", "mode"),
    [
        ((400, 200), (64, 64), 0.875, "center"),
        ((200, 400), (64, 96), 0.9, "center"),
        ((300, 200), (64, 64), 0.8, "squash"),
        ((2000, 100), (32, 32), 1.0, "center"),
    ],
)
def test_the_visible_box_is_what_the_network_gets(original, size, crop, mode):
    taken = preprocessing(size, crop, mode)
    left, top, right, bottom = taken.visible_box(original)
    image = taken.fit(ramps(*original))
    # Centers of the first and the last pixel lie half a pixel inside of the box.
    step = (right - left) / size[1], (bottom - top) / size[0]
    across = np.asarray([left + step[0] / 2, right - step[0] / 2]) / original[0]
    down = np.asarray([top + step[1] / 2, bottom - step[1] / 2]) / original[1]
    np.testing.assert_allclose(image[0, [0, -1], 0], across, atol=0.015)
    np.testing.assert_allclose(image[[0, -1], 0, 1], down, atol=0.015)


def test_a_map_lies_where_the_network_looked_and_the_rest_is_dimmed():
    white = PIL.Image.new("RGB", (800, 400), "white")
    photograph = show_photograph(white, preprocessing((32, 32)))
    assert photograph.box == (200, 0, 600, 400)
    saliency = np.zeros((32, 32), np.float32)
    saliency[:, 16:] = 1.0
    painted = paint(photograph, saliency)
    assert painted.shape == (400, 800, 3)
    assert (painted[:, 210:390] == 255).all()  # seen, and not salient
    assert (painted[:, 410:590, 2] < 200).all()  # seen and salient: hot
    assert np.ptp(painted[:, :195]) == np.ptp(painted[:, 605:]) == 0
    assert painted[0, 0, 0] < 200  # not seen: dimmed
    assert not show_photograph(white, preprocessing((32, 32), mode="squash")).is_cropped


def test_clipping_is_that_of_captum():
    # 0.01, 0.02 ... 1.00 in any order: the values up to 0.99 hold 49.5 of 50.5, which is 98 %.
    steps = np.random.default_rng(0).permutation(np.arange(1, 101)) / np.float32(100)
    clipped = clip_outliers(steps.reshape(10, 10).astype(np.float32))
    np.testing.assert_allclose(
        clipped, np.minimum(steps / 0.99, 1).reshape(10, 10), rtol=1e-6
    )
    # One pixel that holds 1 % of the sum is no measure of the others.
    flat = np.full((10, 99), 0.1, np.float32)
    flat[0, 0] = 1.0
    assert (clip_outliers(flat) == 1.0).all()
    # What holds more than 2 % alone is no outlier.
    peak = np.asarray([[0.0, 0.1], [0.2, 1.0]], np.float32)
    np.testing.assert_array_equal(clip_outliers(peak), peak)
    empty = np.zeros((4, 4), np.float32)
    assert clip_outliers(empty) is empty


def shown(explained="class “vase”", method="mdm", status=Status.CONVERGED, pixelwise=False):
    saliency = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    answer = "probability 0.275, logit 9.853"
    return ShownMap(saliency, explained, answer, method, status, pixelwise)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def check_layout(figure):
    """Every text and picture lies inside of the figure, and none on another."""
    canvas = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    *pictures, bar = figure.axes
    boxes += [ax.get_window_extent(renderer) for ax in pictures]
    boxes.append(bar.get_tightbbox(renderer))
    width, height = canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    for one, other in itertools.combinations(boxes, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(across, down) <= 1.0  # a pixel


@pytest.mark.parametrize("size", [(400, 198), (225, 400), (28, 28), (1600, 100)])
@pytest.mark.parametrize("count", [1, 12])
def test_nothing_overlaps_or_is_cut(size, count):
    taken = preprocessing((28, 28), channels=1)
    photograph = show_photograph(ramps(*size), taken)
    figures = [map_pictures.draw_overlay(photograph, shown(LONG), "photo.jpg, network")]
    flat = [shown(LONG if i % 2 else "vase", f"method_{i}") for i in range(count)]
    figures.append(map_pictures.draw_sheet(photograph, [flat], "photo.jpg, network"))
    if count == 12:
        grid = [flat[:4], flat[4:8], flat[8:]]
        figures.append(map_pictures.draw_sheet(photograph, grid, "photo.jpg, network"))
    for figure in figures:
        check_layout(figure)


def test_a_sheet_names_what_was_given_up_and_what_is_clipped():
    photograph = show_photograph(ramps(64, 48), preprocessing((32, 32)))
    maps = [
        [shown(), shown(method="gradient", pixelwise=True)],
        [
            shown("class “pot”", status=Status.LOST),
            shown("class “pot”", "gradient", Status.EMPTY, pixelwise=True),
        ],
    ]
    said = texts(map_pictures.draw_sheet(photograph, maps, "photo.jpg, network", ["note"]))
    assert said.count("lost") == said.count("empty") == 1
    footer = " ".join(said)
    for part in (f"lost: {REASONS[Status.LOST]}", "gradient: the highest values", "note"):
        assert part in footer
    assert footer.count("class “vase”") == footer.count("class “pot”") == 2
    alone = texts(map_pictures.draw_overlay(photograph, maps[1][0], "photo.jpg, network"))
    assert {"lost", "mdm", "photo.jpg, network"} <= set(alone)
    assert "class “pot”, probability 0.275," in " ".join(alone)
    assert "highest values" not in " ".join(alone)


def test_text_is_wrapped_to_its_width():
    for text in (LONG, "x" * 200, "猫 " * 40, "$_$ " * 30):
        lines = panels.wrap(text, 1.5, 8.0, lines=None)
        assert max(panels.text_width(line, 8.0) for line in lines) <= 1.5
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = panels.wrap("word " * 100, 1.5, 8.0, lines=2)
    assert len(short) == 2
    assert short[1].endswith("…")
    assert panels.wrap("one\ntwo", 5.0, 8.0) == ["one", "two"]
