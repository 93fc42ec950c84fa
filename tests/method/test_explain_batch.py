"""The batch driver: micro-batches, memory, keys, progress and bad input."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import patch_network

from mdm_jax import PRESETS, InputError, MDMConfig, explain
from mdm_jax.data import Digits
from mdm_jax.models.pretrained import load_model

QUICK = MDMConfig(sizes=(4, 8), steps=2)


@pytest.mark.slow
@pytest.mark.skipif(
    jax.default_backend() != "cpu",
    reason="bitwise only where the compiled batch shape is fixed",
)
def test_number_order_and_place_of_images_change_no_bit():
    """On the embedded network, whose ReLUs would turn a rounding into another mask."""
    classifier, source = load_model(), Digits("test")
    scenes = np.stack([source[i].image for i in (3, 4, 1, 2, 0)])
    whole = explain(
        classifier, scenes, config=replace(PRESETS["fast"], steps=12), ids=[3, 4, 1, 2, 0]
    )
    single = explain(
        classifier, scenes[1:2], config=replace(PRESETS["fast"], steps=12), ids=[4]
    )
    turned = explain(
        classifier,
        scenes[::-1],
        config=replace(PRESETS["fast"], steps=12),
        ids=[0, 2, 1, 4, 3],
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1:2], b), whole, single)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[::-1]), whole, turned)


@pytest.mark.slow
def test_keys_come_from_ids(images):
    def noisy(image, *, key):
        return jax.random.uniform(key, image.shape)

    config = replace(QUICK, fill=noisy, start="half")
    same = np.repeat(images[:1], 2, axis=0)
    first = explain(patch_network, same, 0, config=config, ids=["cat.jpg", "dog.jpg"])
    assert not np.allclose(first.info.activation_fill[0], first.info.activation_fill[1])
    swapped = explain(patch_network, same, 0, config=config, ids=["dog.jpg", "cat.jpg"])
    np.testing.assert_allclose(
        first.info.activation_fill, swapped.info.activation_fill[::-1], rtol=1e-6
    )
    other = explain(
        patch_network,
        same,
        0,
        config=config,
        ids=["cat.jpg", "dog.jpg"],
        key=jax.random.key(7),
    )
    assert not np.allclose(first.info.activation_fill, other.info.activation_fill)


@pytest.mark.slow
def test_the_counter_of_compilations_counts(images, compilations):
    with compilations as compiled:
        explain(lambda x: patch_network(x), images, config=QUICK)
    assert compiled.count > 0


@pytest.mark.slow
def test_progress_is_told(images):
    told = []
    explain(patch_network, images, config=QUICK, micro_batch=2, on_progress=told.append)
    assert told == [2, 3]


def test_another_value_of_a_number_does_not_compile_again(images, compilations):
    explain(patch_network, images, config=QUICK)
    with compilations as compiled:
        explain(
            patch_network,
            images,
            config=replace(QUICK, learning_rate=0.1, tolerance=0.5),
            key=jax.random.key(3),
        )
    assert compiled.count == 0


@pytest.mark.slow
def test_a_method_of_ones_own(images):
    def brightness(
        predict, image, target=None, *, node="probability", key, config=None, trace=False
    ):
        from mdm_jax import mdm

        explanation = mdm.explain(predict, image, target, node=node, key=key, config=QUICK)
        return explanation._replace(saliency=image.mean(-1))

    explanation = explain(patch_network, images, method=brightness)
    np.testing.assert_allclose(explanation.saliency, images.mean(-1), rtol=1e-5)


def with_nan(images):
    broken = images.copy()
    broken[1, 0, 0, 0] = np.nan
    return broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"shape \(32, 32, 3\): give \[n, height, width, channels\]"),
        (lambda x: x[:0], "the batch is empty"),
        (lambda x: x[:, :1, :1], "give 8 pixels a side or more"),
        (lambda x: (x * 255).astype(np.uint8), "images are uint8"),
        (lambda x: x * 255, "image 0 has values from"),
        (lambda x: x[0], r"one image: image\[None\]"),
        (lambda x: x[..., 0], r"gray images: images\[\.\.\., None\]"),
        (with_nan, "image 1 holds NaN"),
    ],
)
def test_bad_images(images, change, message):
    with pytest.raises(InputError, match=message):
        explain(patch_network, change(images), config=QUICK)


def test_images_of_different_shapes_are_named(images):
    with pytest.raises(InputError, match="images differ in shape"):
        explain(patch_network, [images[0], images[0][:16]], config=QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"targets": 2},
            "class index 2 is out of range: the network has 2 classes, 0 to 1",
        ),
        ({"targets": [0, 1]}, r"targets have shape \(2,\)"),
        ({"targets": 0.5}, "type float64"),
        ({"method": "mdn"}, "did you mean 'mdm'"),
        ({"config": "papr"}, "did you mean 'paper'"),
        ({"node": "logitt"}, "did you mean 'logit'"),
        ({"micro_batch": 0}, "micro_batch is 0"),
        ({"ids": ["a"]}, "1 ids for 3 images"),
        ({"ids": [0.5, 1, 2]}, "the id 0.5 is neither"),
        ({"key": -1}, "the seed is -1"),
        ({"config": {"steps": 3}}, "config is a dict"),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(InputError, match=message):
        explain(patch_network, images, **({"config": QUICK} | arguments))


@pytest.mark.slow
def test_constant_network_is_named():
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    with pytest.raises(
        InputError, match="the same activation for every image and its fill"
    ):
        explain(
            lambda x: jnp.broadcast_to(jnp.arange(3.0), (len(x), 3)), images, config=QUICK
        )


@pytest.mark.slow
def test_a_blank_image_is_a_status_and_a_map_of_zeros(images):
    blank = np.full_like(images[:1], 0.5)
    settings = replace(QUICK, sizes=(32,))
    mixed = explain(patch_network, np.concatenate([images[:1], blank]), 0, config=settings)
    assert mixed.info.status.tolist() == [1, 3]
    assert not mixed.saliency[1].any()
    assert not mixed.ranking[1].any()
    assert not mixed.evidence[1].any()
    assert mixed.saliency[0].max() == 1
    assert explain(patch_network, blank, 0, config=settings).info.status.tolist() == [3]


@pytest.mark.slow
def test_nan_weights_are_named(images):
    weights = jnp.full((3, 2), jnp.nan)
    with pytest.raises(
        InputError, match="NaN or infinite for every image: check the weights"
    ):
        explain(lambda x: x.mean((1, 2)) @ weights, images, config=QUICK)


def test_the_config_of_another_method_is_one_sentence(images):
    with pytest.raises(InputError, match="rise takes a RISE"):
        explain(patch_network, images, method="rise", config="paper")
