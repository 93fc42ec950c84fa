import jax
import numpy as np
import PIL.Image
import pytest
from conftest import patch_network

from mdm_jax import MDMConfig, explain
from mdm_jax.data import Digits
from mdm_jax.storage.atomic import write_whole
from mdm_jax.views import explanation_figures


@pytest.fixture(scope="module")
def explained():
    examples = [Digits("test")[i] for i in range(3)]
    scenes = np.stack([example.image for example in examples])[:, :32, :32]
    examples = [
        e._replace(image=e.image[:32, :32], mask=e.mask[:32, :32]) for e in examples
    ]
    return examples, explain(
        patch_network, scenes, 0, config=MDMConfig(sizes=(4, 8), steps=3), trace=True
    )


def test_overlay_shows_heat_where_the_map_is_high():
    image, saliency = np.full((8, 8, 3), 0.5, np.float32), np.zeros((8, 8), np.float32)
    saliency[:4] = 1.0
    shown = explanation_figures.overlay(image, saliency)
    assert shown.dtype == np.uint8
    assert np.ptp(shown[6, 6]) == 0  # gray
    assert shown[1, 1, 0] > shown[1, 1, 2] + 40  # hot
    assert explanation_figures.overlay(
        np.full((32, 16, 3), 0.5, np.float32), saliency
    ).shape == (
        32,
        16,
        3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_sheets_are_written(tmp_path, explained, count):
    examples, explanation = explained
    explanation_figures.save(
        explanation_figures.demo_sheet(
            examples[:count], explanation, [0] * count, [0.5] * count
        ),
        tmp_path / "demo.png",
    )
    one = jax.tree.map(lambda leaf: leaf[0], explanation)
    explanation_figures.save(
        explanation_figures.masks_sheet(examples[0].image, one, "title"),
        tmp_path / "masks.png",
    )
    for name in ("demo.png", "masks.png"):
        with PIL.Image.open(tmp_path / name) as sheet:
            assert np.asarray(sheet).std() > 10


def test_animation_has_a_frame_for_every_step(tmp_path, explained):
    examples, explanation = explained
    trace = jax.tree.map(lambda leaf: leaf[0], explanation.trace)
    explanation_figures.save_animation(
        explanation_figures.learning_frames(examples[0], trace), tmp_path / "learning.gif"
    )
    with PIL.Image.open(tmp_path / "learning.gif") as animation:
        assert animation.n_frames == 3
        assert animation.info["loop"] == 0


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "result").write_text("old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_whole(tmp_path / "result", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "old"
    write_whole(tmp_path / "result", lambda file: file.write(b"new"))
    assert (tmp_path / "result").read_text() == "new"
