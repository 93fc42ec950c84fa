"""The network families: one contract, the published sizes, and what each alone does."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mdm_jax import InputError, MDMConfig, explain
from mdm_jax.models import weights
from mdm_jax.models.architectures import STANDARD, build, build_shapes, resolve
from mdm_jax.models.fold_batch_norm import fold_batch_norms
from mdm_jax.models.vit import ViT, interpolate

SMALL = {
    "resnet": ("resnet", {"widths": (4, 8), "depths": (1, 2)}),
    "bottleneck": (
        "resnet",
        {"widths": (4, 8), "depths": (1, 1), "block": "bottleneck", "stem": "imagenet"},
    ),
    "densenet": (
        "densenet",
        {"growth": 4, "initial": 8, "blocks": (2, 2), "stem": "strided"},
    ),
    "vit": ("vit", {"width": 16, "depth": 2, "heads": 2}),
    "vit_conv": ("vit", {"width": 16, "depth": 2, "heads": 2, "stem": "conv"}),
    "deit": ("vit", {"width": 16, "depth": 2, "heads": 2, "distilled": True}),
}
STAGES = {
    "resnet": {
        "stem": (2, 32, 32, 4),
        "layer1": (2, 32, 32, 4),
        "layer2": (2, 16, 16, 8),
        "features": (2, 8),
    },
    "bottleneck": {
        "stem": (2, 8, 8, 4),
        "layer1": (2, 8, 8, 16),
        "layer2": (2, 4, 4, 32),
        "features": (2, 32),
    },
    "densenet": {
        "stem": (2, 16, 16, 8),
        "block1": (2, 16, 16, 16),
        "block2": (2, 8, 8, 16),
        "features": (2, 16),
    },
    "vit": (
        dict.fromkeys(("tokens", "block1", "block2", "norm1", "norm"), (2, 17, 16))
        | {"features": (2, 16)}
    ),
    "vit_conv": (
        dict.fromkeys(("tokens", "block1", "block2", "norm1", "norm"), (2, 17, 16))
        | {"features": (2, 16)}
    ),
    "deit": (
        dict.fromkeys(("tokens", "block1", "block2", "norm1", "norm"), (2, 18, 16))
        | {"features": (2, 16)}
    ),
}


def small(name, **more):
    """A small network of a family, its batch statistics as if it had been trained, in inference
    mode."""
    architecture, arguments = SMALL[name]
    network = build(
        architecture, num_classes=3, size=(32, 32), rngs=nnx.Rngs(1), **arguments | more
    )
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.BatchNorm):
            shape = module.mean[...].shape
            module.mean[...] = jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32)
            module.var[...] = jnp.asarray(rng.uniform(0.5, 2.0, shape), jnp.float32)
            module.scale[...] = jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
            module.bias[...] = jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32)
    return inference(network)


@jax.jit
def run(network, x):
    """Compiled once for all tests that evaluate the same network."""
    return network(x)


def inference(network):
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.fixture(scope="module")
def batch():
    return jax.random.normal(jax.random.key(0), (2, 32, 32, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_intermediate_is_named(name, batch):
    logits, out = run(small(name), batch)
    assert logits.shape == (2, 3)
    assert {key: value.shape for key, value in out.items()} == STAGES[name]
    assert all(np.isfinite(value).all() for value in jax.tree.leaves((logits, out)))


@pytest.mark.parametrize("name", SMALL)
def test_inference_sees_each_image_alone(name, batch):
    network = small(name)
    other = batch.at[1].set(3.0)
    np.testing.assert_allclose(
        run(network, batch)[0][:1], run(network, other)[0][:1], atol=1e-5
    )
    assert np.abs(run(network, batch)[0][1] - run(network, other)[0][1]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_folding_changes_nothing_but_the_work(name, batch):
    network = small(name)
    folded = inference(fold_batch_norms(network))
    expected, out = run(network, batch)
    logits, folded_out = run(folded, batch)
    assert np.linalg.norm(logits - expected) <= 1e-4 * np.linalg.norm(expected)
    assert folded_out.keys() == out.keys()
    assert not any(
        isinstance(module, nnx.BatchNorm) for _, module in nnx.iter_modules(folded)
    )
    has_norms = any(
        isinstance(module, nnx.BatchNorm) for _, module in nnx.iter_modules(network)
    )
    assert has_norms == (name not in {"vit", "deit"}), (
        "folding leaves the network that it was given as it is"
    )


PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_small_patch32_224": 22_878_952,
    "vit_base_patch16_224": 86_567_656,
    "vit_base_patch32_224": 88_224_232,
    "vit_large_patch16_224": 304_326_632,
    "deit_tiny_patch16_224": 5_717_416,
    "deit_tiny_distilled_patch16_224": 5_910_800,
    "deit_small_patch16_224": 22_050_664,
    "deit_base_patch16_224": 86_567_656,
    "deit_base_distilled_patch16_224": 87_338_192,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_published_networks_have_the_published_number_of_parameters(name):
    network = build_shapes(name, num_classes=1000, size=(224, 224))
    assert (
        sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))
        )
        == PARAMETERS[name]
    )


@pytest.mark.slow
def test_every_published_name_can_be_built():
    for name in STANDARD:
        family, _ = resolve(name)
        assert family in ("resnet", "densenet", "vit")
        if name not in PARAMETERS:  # those are built above
            build_shapes(name, num_classes=2, size=(64, 64))


@pytest.mark.parametrize(
    "name",
    ["resnet50d", "wide_resnet50_2", "resnext50_32x4d", "vit_base_patch8_224", "swin", ""],
)
def test_other_networks_are_refused_by_name(name):
    with pytest.raises(
        InputError,
        match=r"unknown architecture .* are other networks: hand them to mdm_jax\.explain",
    ):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {"block": "wide"}, "unknown block 'wide'"),
        ("resnet", {"stem": "deep"}, "unknown stem 'deep'"),
        ("densenet", {"stem": "deep"}, "unknown stem 'deep'"),
        ("vit", {"stem": "deep"}, "unknown stem 'deep'"),
        ("vit", {"width": 16, "heads": 3}, "no multiple of 3 heads"),
        ("vit", {"patch": 7}, "no multiple of the patch of 7"),
        ("vit", {"patch": 64}, "no multiple of the patch of 64"),
    ],
)
def test_arguments_that_cannot_be(name, arguments, message):
    with pytest.raises(InputError, match=message):
        nnx.eval_shape(
            lambda: build(name, num_classes=2, size=(32, 32), rngs=nnx.Rngs(0), **arguments)
        )


def test_a_conv_stem_needs_a_power_of_two():
    with pytest.raises(InputError, match="a patch of 12 cannot be"):
        nnx.eval_shape(lambda: ViT(size=(48, 48), patch=12, stem="conv", rngs=nnx.Rngs(0)))


def test_attention_comes_on_request_and_is_a_softmax(batch):
    network = small("deit")
    logits, out = jax.jit(lambda network, x: network(x, attention=True))(network, batch)
    assert "attention" not in run(network, batch)[1]
    assert [each.shape for each in out["attention"]] == [(2, 2, 18, 18)] * 2
    for attention in out["attention"]:
        np.testing.assert_allclose(attention.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(logits, run(network, batch)[0], atol=1e-6)


def test_distilled_logits_are_the_mean_of_both_heads(batch):
    network = small("deit")
    logits, out = run(network, batch)
    both = (network.head(out["norm"][:, 0]) + network.head_dist(out["norm"][:, 1])) / 2
    np.testing.assert_allclose(logits, both, atol=1e-6)
    np.testing.assert_array_equal(out["features"], out["norm"][:, 0])


@pytest.mark.slow
def test_rematerialization_changes_memory_not_values(batch):
    def gradient(network):
        return jax.jit(jax.grad(lambda x: network(x)[0][:, 0].sum()))(batch)

    np.testing.assert_allclose(
        gradient(small("vit", remat=True)), gradient(small("vit")), atol=1e-6
    )
    network = small("vit", remat=True)
    jaxpr = str(jax.make_jaxpr(lambda x: network(x)[0])(batch))
    assert "checkpoint" in jaxpr or "remat" in jaxpr


@pytest.mark.slow
def test_position_embeddings_are_interpolated_for_other_sizes():
    network = small("vit")
    wider = jax.random.normal(jax.random.key(1), (2, 32, 48, 3))
    logits, out = run(network, wider)
    assert out["tokens"].shape == (2, 1 + 4 * 6, 16)
    assert np.isfinite(logits).all()
    with pytest.raises(InputError, match="no multiple of the patch"):
        network(wider[:, :30])


def test_interpolation_keeps_planes_and_the_leading_tokens():
    ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], (8, 8, 1)).reshape(1, 64, 1)
    embedding = jnp.concatenate([jnp.full((1, 2, 1), 7.0), ramp], axis=1)
    assert interpolate(embedding, 2, (8, 8), (8, 8)) is embedding
    larger = interpolate(embedding, 2, (8, 8), (16, 12))
    assert larger.shape == (1, 2 + 16 * 12, 1)
    np.testing.assert_array_equal(larger[:, :2], 7.0)
    grid = larger[0, 2:, 0].reshape(16, 12)
    np.testing.assert_allclose(
        grid[4:12, 3], (np.arange(16)[4:12] + 0.5) / 2 - 0.5, atol=1e-2
    )


@pytest.mark.slow
def test_bfloat16_stays_bfloat16_inside(batch):
    network = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), small("vit"))
    logits, out = run(network, batch.astype(jnp.bfloat16))
    assert {value.dtype for value in jax.tree.leaves((logits, out))} == {
        jnp.dtype(jnp.bfloat16)
    }
    expected = run(small("vit"), batch)[0]
    assert np.linalg.norm(logits.astype(np.float32) - expected) < 0.05 * np.linalg.norm(
        expected
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_entries_fill_the_same_network(name, batch):
    network = small(name)
    architecture, arguments = SMALL[name]
    again = weights.load(
        lambda: build(
            architecture, num_classes=3, size=(32, 32), rngs=nnx.Rngs(2), **arguments
        ),
        weights.entries(network),
    )
    np.testing.assert_array_equal(run(inference(again), batch)[0], run(network, batch)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_mdm_explains_every_family(name, batch):
    network, images, config = (
        small(name),
        jax.nn.sigmoid(batch),
        MDMConfig(sizes=(4,), steps=3),
    )
    explanation = explain(lambda x: network(4 * x - 2), images, config=config)
    assert explanation.saliency.shape == (2, 32, 32)
    assert np.isfinite(explanation.saliency).all()
    assert (explanation.info.kept_area < 0.98).all()


@pytest.mark.slow
def test_mdm_on_a_network_in_bfloat16_has_float32_masks(batch):
    images, config = jax.nn.sigmoid(batch), MDMConfig(sizes=(4,), steps=3)
    network = small("vit")
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network)
    exact = explain(lambda x: network(4 * x - 2), images, config=config)
    rough = explain(
        lambda x: half((4 * x - 2).astype(jnp.bfloat16))[0].astype(jnp.float32),
        images,
        config=config,
    )
    assert {vector.dtype for vector in rough.mask_vectors} == {jnp.dtype(jnp.float32)}
    assert rough.saliency.dtype == jnp.float32
    np.testing.assert_allclose(rough.info.activation, exact.info.activation, atol=0.02)
