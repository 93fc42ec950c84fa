"""Class activation maps and attention maps: closed forms, other implementations' numbers, and what
cannot be explained."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import patch_network
from reference_network import captum, network

from mdm_jax import InputError, explain, masks
from mdm_jax.baselines import chefer, grad_cam_pp, rollout
from mdm_jax.baselines.cam import CAMConfig, check_layer
from mdm_jax.baselines.grad_cam import GradCAM
from mdm_jax.baselines.rollout import Rollout
from mdm_jax.baselines.score_cam import ScoreCAM
from mdm_jax.methods import METHODS

KEY = jax.random.key(0)
KERNEL = jax.random.normal(jax.random.key(1), (3, 4))
HEAD = jax.random.normal(jax.random.key(2), (4, 3))


@pytest.fixture(scope="module")
def fixture():
    with np.load(pathlib.Path(__file__).parents[1] / "fixtures" / "cams.npz") as file:
        return captum() | {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(jax.random.key(3), (8, 12, 3))


def feature_map(images):
    """8 x 12 pixels to a map of 4 x 6 places and 4 channels."""
    return jax.nn.relu(images[:, ::2, ::2] @ KERNEL)


def pooled(images):
    maps = feature_map(images)
    return maps.mean((1, 2)) @ HEAD, {"map": maps}


def weighed(images):
    """Every place has weights of its own."""
    maps = feature_map(images)
    return jnp.einsum("nhwk,hwkc->nc", maps, PLACES), {"map": maps}


PLACES = jax.random.normal(jax.random.key(4), (4, 6, 4, 3))


def attributions(method, fixture, config):
    predict = network(fixture)
    run = jax.jit(
        jax.vmap(
            lambda x, y: (
                METHODS[method].explain(predict, x, y, key=KEY, config=config).attribution
            )
        )
    )
    return run(jnp.asarray(fixture["images"]), jnp.asarray(fixture["targets"], jnp.int32))


def solve(method, predict, image, target=0, config=None):
    return jax.jit(
        lambda x: METHODS[method].explain(predict, x, target, key=KEY, config=config)
    )(image)


def resized(maps, size):
    return np.stack([masks.render(jnp.asarray(each, jnp.float32), size) for each in maps])


def test_grad_cam_is_captums(fixture):
    found = attributions("grad_cam", fixture, GradCAM(layer="conv2"))
    np.testing.assert_allclose(
        found, fixture["grad_cam/upsampled"], rtol=1e-4, atol=1e-5 * np.abs(found).max()
    )
    assert found.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "config", "name"),
    [
        ("grad_cam_pp", None, "grad_cam_pp"),
        ("layer_cam", None, "layer_cam"),
        (
            "score_cam",
            ScoreCAM(variant="pytorch-grad-cam", chunk=5),
            "score_cam/pytorch-grad-cam",
        ),
        ("score_cam", ScoreCAM(variant="original"), "score_cam/original"),
    ],
)
def test_the_others_are_what_torch_computes_from_their_formulas(
    fixture, method, config, name
):
    expected = fixture[name]
    expected = expected if expected.shape[1:] == (12, 10) else resized(expected, (12, 10))
    found = attributions(method, fixture, config)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * expected.max())
    assert expected.max() > 0


@pytest.mark.slow
def test_grad_cam_of_a_mean_and_a_linear_head_is_the_class_activation_map(image):
    explanation = solve("grad_cam", pooled, image, 1)
    cam = jnp.maximum(feature_map(image[None])[0] @ HEAD[:, 1], 0.0) / 24
    np.testing.assert_allclose(
        explanation.attribution, masks.render(cam, (8, 12)), atol=1e-6
    )
    np.testing.assert_allclose(
        explanation.saliency, masks.normalize(masks.render(cam, (8, 12))), atol=1e-5
    )
    assert (explanation.info.evaluations, explanation.info.forwards) == (1, 3)


def test_layer_cam_weighs_every_place_by_its_own_positive_gradient(image):
    found = solve("layer_cam", weighed, image, 2).attribution
    expected = (jnp.maximum(PLACES[..., 2], 0.0) * feature_map(image[None])[0]).sum(-1)
    np.testing.assert_allclose(found, masks.render(expected, (8, 12)), atol=1e-5)


def test_grad_cam_pp_of_a_single_channel_by_hand():
    maps, gradients = jnp.asarray([[[2.0], [1.0]]]), jnp.asarray([[[0.5], [0.0]]])
    weight = 0.25 / (2 * 0.25 + 3.0 * 0.125 + 1e-6) * 0.5
    np.testing.assert_allclose(
        grad_cam_pp.combine(maps, gradients), weight * maps[..., 0], rtol=1e-6
    )
    np.testing.assert_array_equal(grad_cam_pp.combine(maps, -gradients), 0.0)


@pytest.mark.slow
def test_the_papers_score_cam_weighs_by_the_increase_over_the_neutral_image(image):
    explanation = solve("score_cam", pooled, image, config=ScoreCAM(chunk=3))
    maps = feature_map(image[None])[0]

    def probability(x):
        return jax.nn.softmax(pooled(x[None])[0][0])[0]

    cam = 0.0
    for k in range(4):
        seen = masks.normalize(masks.render(maps[..., k], (8, 12)))[..., None]
        cam += (
            probability(seen * image + (1 - seen) * 0.5)
            - probability(jnp.full_like(image, 0.5))
        ) * maps[..., k]
    np.testing.assert_allclose(
        explanation.attribution, masks.render(jnp.maximum(cam, 0.0), (8, 12)), atol=1e-6
    )
    assert explanation.attribution.max() > 1e-3
    assert (explanation.info.evaluations, explanation.info.forwards) == (0, 4 + 1 + 3)


def test_a_constant_channel_weighs_nothing(image):
    def constant(images):
        maps = feature_map(images)
        return maps.mean((1, 2)) @ HEAD, {"map": jnp.ones_like(maps)}

    config = ScoreCAM(layer="map")
    np.testing.assert_array_equal(
        solve("score_cam", constant, image, config=config).attribution, 0.0
    )


def attending(blocks, heads=1):
    """A network whose attention [t = 5, t] is the same in all blocks and heads, uniform; 2 x 2
    patches."""

    def predict(images):
        tokens = jnp.pad(
            images.reshape(len(images), 2, 4, 2, 4, 3).mean((2, 4, 5)).reshape(-1, 4),
            ((0, 0), (1, 0)),
        )
        attention = [jnp.full((len(images), heads, 5, 5), 0.2) for _ in range(blocks)]
        for each in attention:
            tokens = tokens + jnp.einsum("nqk,nk->nq", each[:, 0], tokens)
        return jnp.stack([tokens[:, 0], tokens[:, 1]], axis=-1), {"attention": attention}

    return predict


def test_rollout_of_uniform_attention(image):
    explanation = solve("rollout", attending(3), image[:, :8])
    np.testing.assert_allclose(explanation.attribution, (1 - 0.5**3) / 5, atol=1e-6)
    assert (explanation.info.evaluations, explanation.info.forwards) == (0, 1 + 3)


@pytest.mark.slow
def test_rollout_rows_sum_to_one_and_columns_do_not():
    attention = [
        jax.nn.softmax(2 * jax.random.normal(key, (6, 6)))
        for key in jax.random.split(KEY, 3)
    ]
    rolled = rollout.roll([rollout.discard(each, 0.5) for each in attention])
    np.testing.assert_allclose(rolled.sum(axis=1), 1.0, atol=1e-6)
    assert np.abs(rolled.sum(axis=0) - 1).max() > 0.1
    by_hand = np.eye(6)
    for each in attention:
        mixed = np.asarray(each) + np.eye(6)
        by_hand = (mixed / mixed.sum(1, keepdims=True)) @ by_hand
    np.testing.assert_allclose(rollout.roll(attention), by_hand, atol=1e-6)


def test_the_smallest_attention_is_discarded_but_for_the_class_tokens_own():
    attention = jnp.asarray([[0.01, 0.4], [0.02, 0.5]])
    np.testing.assert_allclose(rollout.discard(attention, 0.5), [[0.01, 0.4], [0.0, 0.5]])
    np.testing.assert_array_equal(rollout.discard(attention, 0.0), attention)
    np.testing.assert_array_equal(rollout.discard(attention, jnp.float32(0.0)), attention)


def test_heads_are_fused_as_told():
    heads = jnp.asarray([[[1.0, 4.0]], [[3.0, 2.0]]])
    fused = {name: fuse(heads).tolist() for name, fuse in rollout.FUSIONS.items()}
    assert fused == {"mean": [[2.0, 3.0]], "max": [[3.0, 4.0]], "min": [[1.0, 2.0]]}


@pytest.mark.slow
def test_chefer_of_one_block_by_hand(image):
    values = jnp.asarray([[1.0, 2.0, -3.0, 0.5, 4.0], [0.0, -1.0, 1.0, 2.0, -0.5]])

    def predict(images):
        tokens = jnp.pad(
            images.reshape(len(images), 2, 4, 2, 4, 3).mean((2, 4, 5)).reshape(-1, 4),
            ((0, 0), (1, 0)),
        )
        scores = jnp.stack(
            [tokens[:, :, None] * tokens[:, None, :] * s for s in (3.0, -2.0)], axis=1
        )
        attention = jax.nn.softmax(scores, axis=-1)
        logit = jnp.einsum("nhk,hk->n", attention[:, :, 0], values)
        return jnp.stack([logit, 0 * logit], axis=-1), {"attention": [attention]}

    explanation = solve("chefer", predict, image[:, :8])
    attention = predict(image[None, :, :8])[1]["attention"][0][0]
    row = jnp.maximum(values * attention[:, 0], 0.0).mean(0)[
        1:
    ]  # only the class token's row moves the logit
    np.testing.assert_allclose(
        explanation.attribution, masks.render(row.reshape(2, 2), (8, 8)), atol=1e-6
    )
    assert (explanation.info.evaluations, explanation.info.forwards) == (1, 3)


def test_relevance_is_handed_on_from_block_to_block():
    a, b = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 4)).astype(np.float32)
    gradients = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    first = np.eye(4) + np.maximum(gradients[0] * a, 0).mean(0)
    expected = first + np.maximum(gradients[1] * b, 0).mean(0) @ first
    found = chefer.propagate(
        [jnp.asarray(a), jnp.asarray(b)], [jnp.asarray(each) for each in gradients]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["grad_cam", "score_cam"])
def test_a_cam_needs_a_network_with_intermediates(method, images):
    with pytest.raises(InputError, match="returns logits alone"):
        explain(patch_network, images, method=method)


@pytest.mark.parametrize("method", ["rollout", "chefer"])
def test_a_cnn_has_no_attention_to_roll_out(method, tiny, images):
    with pytest.raises(
        InputError, match="returns no attention, so it cannot be rolled out"
    ):
        explain(tiny, images, method=method)


def test_settings_that_cannot_be(tiny, images):
    with pytest.raises(InputError, match="did you mean 'layer1'"):
        explain(tiny, images, method="grad_cam", config=GradCAM(layer="layer1.0"))
    with pytest.raises(InputError, match="needs a map"):
        explain(tiny, images, method="layer_cam", config=CAMConfig(layer="features"))
    with pytest.raises(InputError, match="layer is 3"):
        check_layer(3)
    for config, message in (
        (ScoreCAM(variant="papr"), "did you mean 'paper'"),
        (ScoreCAM(chunk=0), "chunk is 0"),
        (Rollout(fusion="median"), "unknown fusion"),
        (Rollout(discard_ratio=1.0), "discard_ratio is 1.0"),
    ):
        with pytest.raises(InputError, match=message):
            config.check()
