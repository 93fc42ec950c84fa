"""Masks as public tools write them: the object exactly, or a sentence with the values found."""

import numpy as np
import PIL.Image
import pytest

from mdm_jax import DataSpec, InputError, evaluate
from mdm_jax.data.annotations import clip_boxes, mask_from_image
from mdm_jax.data.object_values import ObjectValues

SIZE = (50, 40)
OBJECT = np.zeros(SIZE[::-1], bool)
OBJECT[10:30, 15:35] = True
PHOTOGRAPH = PIL.Image.new("RGB", SIZE)
RING = np.zeros_like(OBJECT)
RING[8:32, 13:37] = True
RING &= ~OBJECT
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *[0] * 33, 192, 128, 128]


def drawn(value, background=0, mode=None, dtype=np.uint8):
    """The object in one value or color on another."""
    shape = (*OBJECT.shape, len(value)) if isinstance(value, tuple) else OBJECT.shape
    pixels = np.empty(shape, dtype)
    pixels[:], pixels[OBJECT] = background, value
    image = PIL.Image.fromarray(pixels)
    return image if mode is None else image.convert(mode)


def palette(values, colors=PALETTE):
    image = PIL.Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette(colors)
    return image


def stored(image, folder, suffix=".png"):
    """As it comes back from a file."""
    image.save(folder / f"mask{suffix}")
    with PIL.Image.open(folder / f"mask{suffix}") as opened:
        opened.load()
    return opened


def cut_out(color):
    return drawn((*color, 255), background=(0, 0, 0, 0))


WHOLE = {
    "255": drawn(255),
    "1": drawn(1),
    "1 bit": drawn(255).convert("1"),
    "red": drawn((255, 0, 0)),
    "blue": drawn((0, 0, 255)),
    "opaque": drawn((255, 255, 255, 255), (0, 0, 0, 255)),
    "16 bits, 255": drawn(255, dtype=np.uint16),
    "16 bits, 65535": drawn(65535, dtype=np.uint16),
    "class 3 of a palette": palette(np.where(OBJECT, 3, 0)),
    "white before black in a palette": palette(np.where(OBJECT, 0, 1), [255] * 3 + [0] * 3),
    "cut out, white": cut_out((255, 255, 255)),
    "cut out, black": cut_out((0, 0, 0)),
}

REFUSED = {
    "1, 2, 3": (drawn(1, 2), RING, 3, "values 1, 2, 3"),
    "0, 1, 200": (drawn(200), RING, 1, "values 0, 1, 200"),
    "two colors": (
        drawn((255, 0, 0)),
        RING,
        (0, 255, 0),
        "values #000000, #00ff00, #ff0000",
    ),
    "two classes": (drawn(1), RING, 15, "values 0, 1, 15"),
    "no background": (drawn(2, 1), None, None, "values 1, 2"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_object_exactly(tmp_path, name):
    mask = mask_from_image(stored(WHOLE[name], tmp_path), PHOTOGRAPH, "it")
    np.testing.assert_array_equal(mask, OBJECT)


@pytest.mark.parametrize("name", REFUSED)
def test_never_a_part_of_it(tmp_path, name):
    image, where, value, found = REFUSED[name]
    if where is not None:
        pixels = np.array(image)
        pixels[where] = value
        image = PIL.Image.fromarray(pixels)
    with pytest.raises(
        InputError, match=f"the mask of it has the {found}: draw the object"
    ):
        mask_from_image(stored(image, tmp_path), PHOTOGRAPH, "it")


def test_soft_edges_and_many_values_are_refused():
    pixels = np.where(OBJECT, 255, 0).astype(np.uint8)
    pixels[RING] = np.arange(RING.sum()) % 256
    with pytest.raises(InputError, match=r"177 values 0, 1, 2, 3, ..., 255: draw"):
        mask_from_image(PIL.Image.fromarray(pixels), PHOTOGRAPH, "it")


def test_masks_in_files_that_blur(tmp_path):
    for color in (255, (255, 0, 0)):
        mask = mask_from_image(stored(drawn(color), tmp_path, ".jpg"), PHOTOGRAPH, "it")
        assert (mask != OBJECT).mean() < 0.01
    two = np.array(drawn((255, 0, 0)))
    two[RING] = (0, 255, 0)
    for image in (drawn(1, 15), PIL.Image.fromarray(two), drawn(200, 100)):
        with pytest.raises(InputError, match="in a JPEG file, which blurs them"):
            mask_from_image(stored(image, tmp_path, ".jpg"), PHOTOGRAPH, "it")


def test_a_person_can_name_the_object(tmp_path):
    trimap = drawn(1, 2)
    two_classes = palette(np.where(OBJECT, 15, np.where(RING, 1, 0)))
    colors = np.array(drawn((255, 0, 0)))
    colors[RING] = (0, 255, 0)
    for text, image in [
        ("1", trimap),
        ("15", two_classes),
        ("#c08080", two_classes),
        ("#FF0000", PIL.Image.fromarray(colors)),
        (">127", drawn(204, 102)),
        ("300", drawn(300, 7, dtype=np.uint16)),
    ]:
        mask = mask_from_image(image, PHOTOGRAPH, "it", ObjectValues.parse(text))
        np.testing.assert_array_equal(mask, OBJECT, err_msg=text)
    for text in ("red", "", "#ff", "1;2", "<3"):
        with pytest.raises(InputError, match="cannot be: write numbers or colors"):
            ObjectValues.parse(text)
    for name in ("cat", "masks/cat"):
        (tmp_path / name).mkdir(parents=True)
    PHOTOGRAPH.save(tmp_path / "cat/a.png")
    trimap.save(tmp_path / "masks/cat/a.png")
    spec = {"data": f"folder:{tmp_path}", "split": "all"}
    with pytest.raises(InputError, match=r"values 1, 2: draw .* or say with object_values"):
        DataSpec(**spec).open()[0]
    np.testing.assert_array_equal(
        DataSpec(**spec, object_values="1").open()[0].mask, OBJECT
    )


def test_one_tolerance_of_boxes():
    nearly = np.asarray([[-0.004, 0.0, 64.004, 64.0]])
    assert clip_boxes(nearly, PIL.Image.new("RGB", (64, 64)), "it").tolist() == [
        [0, 0, 64, 64]
    ]
    images, maps = np.zeros((1, 64, 64, 3)), np.eye(64)[None]
    scores = evaluate(
        lambda images: images.mean((1, 2)),
        images,
        maps,
        0,
        boxes=[nearly],
        metrics=("energy",),
    )
    (energy,) = scores.summary().values()
    assert energy.value == pytest.approx(1.0)
    with pytest.raises(InputError, match="outside its 64x64 pixels"):
        evaluate(
            lambda images: images.mean((1, 2)),
            images,
            maps,
            0,
            boxes=[nearly + 0.01],
            metrics=("energy",),
        )
