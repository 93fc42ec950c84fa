"""Any network: modules and closures become pytrees whose weights are arguments of the compiled
program."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import patch_network
from flax import nnx

from mdm_jax import InputError, MDMConfig, area, consistency, explain
from mdm_jax.execution import network

CONFIG = MDMConfig(sizes=(2, 4), steps=2)


class Module(nnx.Module):
    """Dropout and batch normalization would make it random and dependent on the batch, were it not
    for inference mode."""

    def __init__(self, channels, rngs):
        self.conv = nnx.Conv(channels, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(jax.nn.relu(self.norm(self.conv(x)))).mean((1, 2))
        return self.head(x), {"features": x}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2)))


def nnx_module(channels):
    return Module(channels, nnx.Rngs(0))


def linen_module(channels):
    module = Linen()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16, 16, channels)))
    return lambda images: module.apply(variables, images)


def linen_partial(channels):
    module = Linen()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16, 16, channels)))
    return jax.tree_util.Partial(module.apply, variables)


def equinox_module(channels):
    """One image, channels first, as Equinox has it: the caller says so."""
    keys = jax.random.split(jax.random.key(0), 2)
    module = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(channels, 4, 3, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.AdaptiveAvgPool2d(1),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(4, 3, key=keys[1]),
        ]
    )
    return lambda images: jax.vmap(module)(jnp.moveaxis(images, -1, 1))


def numpy_closure(channels):
    weights = np.random.default_rng(0).normal(size=(channels, 3)).astype(np.float32)
    return lambda images: jnp.square(images).mean((1, 2)) @ weights


def jitted_closure(channels):
    """What an inner `jit` closes over must come to light too."""
    return jax.jit(linen_module(channels))


NETWORKS = [
    nnx_module,
    linen_module,
    linen_partial,
    equinox_module,
    numpy_closure,
    jitted_closure,
]


def some_images(n=2, height=16, width=16, channels=3):
    return (
        np.random.default_rng(1)
        .uniform(size=(n, height, width, channels))
        .astype(np.float32)
    )


@pytest.mark.slow
@pytest.mark.parametrize("build", NETWORKS)
def test_any_network_is_explained(build):
    explanation = explain(build(3), some_images(), config=CONFIG)
    assert explanation.saliency.shape == (2, 16, 16)
    assert np.isfinite(explanation.saliency).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(16, 16, 1), (16, 16, 5), (16, 24, 3)]
)
def test_any_image_shape(height, width, channels):
    explanation = explain(
        numpy_closure(channels), some_images(2, height, width, channels), config=CONFIG
    )
    assert explanation.saliency.shape == (2, height, width)


@pytest.mark.slow
def test_multi_label_network():
    images = some_images()
    explanation = explain(
        numpy_closure(3), images, targets=[0, 2], node="sigmoid", config=CONFIG
    )
    logits = numpy_closure(3)(images)
    expected = 1 / (1 + np.exp(-logits[[0, 1], [0, 2]]))
    np.testing.assert_allclose(explanation.info.activation, expected, rtol=1e-5)


@pytest.mark.slow
def test_outputs_of_the_users_own_form():
    def predict(images):
        return {"distances": jnp.square(images).mean((1, 2))}

    explanation = explain(
        predict,
        some_images(),
        targets=1,
        node=lambda out, c: -out["distances"][c],
        config=CONFIG,
    )
    assert (explanation.info.activation < 0).all()


@pytest.mark.slow
def test_whole_logit_vector_as_node():
    explanation = explain(numpy_closure(3), some_images(), node="logits", config=CONFIG)
    assert explanation.info.activation.shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("build", NETWORKS)
def test_network_computes_what_the_original_does(build):
    original, images = build(3), some_images()
    if isinstance(original, nnx.Module):
        original.eval()
    traced, outputs = network.as_network(original, (16, 16, 3))
    expected = original(images)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        traced(jnp.asarray(images)),
        expected,
    )
    assert jax.tree.map(lambda leaf: leaf.shape, outputs) == jax.tree.map(
        lambda leaf: leaf.shape[1:], expected
    )


@pytest.mark.parametrize("build", NETWORKS)
def test_weights_are_arguments_and_split_inverts(build):
    traced, _ = network.as_network(build(3), (16, 16, 3))
    arrays, rest = network.split(traced)
    assert sum(array.size for array in arrays) >= 9
    assert hash(rest) == hash(network.split(traced)[1])
    again = network.join(arrays, rest)
    images = jnp.asarray(some_images())
    np.testing.assert_array_equal(
        jax.tree.leaves(again(images))[0], jax.tree.leaves(traced(images))[0]
    )


def in_place():
    weights = np.ones((3, 3), np.float32)

    def double():
        nonlocal weights
        weights *= 2.0

    return lambda images: jnp.square(images).mean((1, 2)) @ weights, double


def rebound():
    box = {"weights": jnp.ones((3, 3))}
    return (
        lambda images: jnp.square(images).mean((1, 2)) @ box["weights"],
        lambda: box.update(weights=2 * box["weights"]),
    )


def rebound_under_jit():
    box = {"weights": jnp.ones((3, 3))}

    def predict(images):
        return jax.jit(lambda x: jnp.square(x).mean((1, 2)) @ box["weights"])(images)

    return predict, lambda: box.update(weights=2 * box["weights"])


def trained_module():
    module = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))

    def double():
        module.kernel[...] *= 2.0

    return lambda images: module(jnp.square(images).mean((1, 2))), double


def test_split_parts_as_equinox_does():
    tree = {
        "weights": jnp.ones((2, 3)),
        "name": "own",
        "rate": np.float32(0.5),
        "none": None,
    }
    arrays, rest = network.split(tree)
    dynamic, _ = eqx.partition(tree, eqx.is_array_like)
    expected = [leaf for leaf in jax.tree.leaves(dynamic) if not isinstance(leaf, str)]
    jax.tree.map(np.testing.assert_array_equal, arrays, expected)
    assert network.join(arrays, rest)["name"] == "own"
    assert hash(rest) == hash(network.split(tree)[1])


@pytest.mark.slow
@pytest.mark.parametrize("build", [in_place, rebound, rebound_under_jit, trained_module])
def test_changed_weights_are_seen_without_compiling_again(build, compilations):
    predict, double = build()
    images = some_images()
    before = explain(
        predict, images, targets=0, node="logit", config=CONFIG
    ).info.activation
    double()
    with compilations as compiled:
        after = explain(
            predict, images, targets=0, node="logit", config=CONFIG
        ).info.activation
    np.testing.assert_allclose(after, 2 * before, rtol=1e-5)
    assert compiled.count == 0


@pytest.mark.slow
def test_half_precision_outputs_are_compared_in_float32():
    def predict(images):
        return numpy_closure(3)(images).astype(jnp.bfloat16)

    config = MDMConfig(sizes=(2, 4), steps=2, objective=(consistency("kl"), area(0.1)))
    explanation = explain(predict, some_images(), config=config)
    assert explanation.info.activation.dtype == np.float32
    assert np.isfinite(explanation.info.objective).all()


@pytest.mark.slow
def test_outputs_without_logits_are_named():
    images = some_images()
    for predict in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x,
        lambda x: {"a": x.mean((1, 2))},
    ):
        with pytest.raises(InputError, match="no logits"):
            explain(predict, images, config=CONFIG)
    explanation = explain(
        lambda x: jnp.square(x).mean((1, 2, 3)),
        images,
        0,
        node=lambda out, _: out,
        config=CONFIG,
    )
    assert np.isfinite(explanation.saliency).all()
    paired = explain(
        lambda x: (None, jnp.square(x).mean((1, 2))),
        images,
        0,
        node=lambda out, c: out[1][c],
        config=CONFIG,
    )
    assert np.isfinite(paired.saliency).all()
    with pytest.raises(InputError, match="returns nothing"):
        explain(lambda x: None, images, 0, config=CONFIG)


def test_a_module_in_training_mode_behind_a_function_is_named():
    module = nnx_module(3)
    with pytest.raises(InputError, match=r"call model\.eval\(\)"):
        explain(lambda x: module(x), some_images(), config=CONFIG)


def test_residual_bytes_grow_with_the_network():
    def deep(images):
        for _ in range(4):
            images = jnp.sin(images)
        return images.mean((1, 2))

    shape = (16, 16, 3)
    few, many = (
        network.residual_bytes(f, shape) for f in (lambda x: jnp.sin(x).mean((1, 2)), deep)
    )
    assert few == 16 * 16 * 3 * 4
    assert many == 4 * few


def test_networks_that_cannot_be_used():
    shape = (16, 16, 3)
    with pytest.raises(InputError, match="predict is a int"):
        network.as_network(3, shape)
    with pytest.raises(InputError, match="turns its input into a NumPy array"):
        network.as_network(lambda images: np.asarray(images).mean((1, 2)), shape)
    with pytest.raises(
        InputError, match=r"does not accept images of shape \(1, 16, 16, 3\)"
    ):
        network.as_network(nnx_module(5), shape)
    with pytest.raises(InputError, match="lead with the batch axis"):
        network.as_network(lambda images: images.mean((0, 1, 2)), shape)


def test_patch_network_needs_jax_only():
    traced, outputs = network.as_network(patch_network, (32, 32, 3))
    assert isinstance(traced, network.Traced)
    assert outputs.shape == (2,)
