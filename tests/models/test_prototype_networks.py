"""ProtoPNet and XProtoNet: hand-computed values, brute force, finite differences, weights, and
nodes."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from safetensors.numpy import save_file

import mdm_jax
from mdm_jax import nodes
from mdm_jax.errors import InputError
from mdm_jax.models import weights
from mdm_jax.models.architectures import build
from mdm_jax.models.protopnet import EPSILON, LARGEST, log_similarity, squared_distances
from mdm_jax.models.prototype_layers import add_on_layers, apply_layers, assign_classes
from mdm_jax.models.reinitialize import named_weights, reinitialize
from mdm_jax.models.xprotonet import cosine_similarity, pooled_features

SMALL = {"widths": (4, 8), "depths": (1, 1)}
BACKBONES = {
    "resnet": SMALL,
    "densenet": {"growth": 4, "initial": 8, "blocks": (1, 1)},
    "vit": {"width": 12, "depth": 1, "heads": 2},
}


def network(family: str, backbone: str = "resnet", **arguments):
    given = {
        "backbone": backbone,
        "backbone_arguments": BACKBONES[backbone],
        "prototypes_per_class": 2,
        "width": 6,
    } | arguments
    built = build(family, num_classes=3, size=(16, 16), rngs=nnx.Rngs(0), **given)
    return nnx.view(
        built, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@jax.jit
def said(network, images):
    return network(images)


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("family", ["protopnet", "xprotonet"])
def test_outputs_on_every_backbone(family, backbone, images):
    built = network(family, backbone)
    logits, out = said(built, images)
    gh, gw, _ = out["patches"].shape[1:]
    assert logits.shape == (2, 3)
    assert out["patches"].shape == (2, gh, gw, 6)
    assert min(gh, gw) >= 2
    assert built.prototype_classes == (0, 0, 1, 1, 2, 2)
    assert built.feature_layer in out
    for name in ("similarities", "distances", "normalized_similarities"):
        assert out[name].shape == (2, 6)
    maps = "similarity_maps" if family == "protopnet" else "occurrence_maps"
    assert out[maps].shape == (2, gh, gw, 6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((logits, out)))
    assert (np.asarray(out["normalized_similarities"]) <= 1 + 1e-6).all()
    np.testing.assert_allclose(
        logits, out["similarities"] @ built.last_layer.kernel[...], rtol=1e-4, atol=1e-5
    )
    if family == "protopnet":
        np.testing.assert_allclose(
            out["distances"], np.asarray(out["distance_maps"]).min((1, 2))
        )
        np.testing.assert_allclose(
            out["similarities"], log_similarity(out["distances"]), rtol=1e-5
        )
    else:
        assert (np.asarray(out["occurrence_maps"]) >= 0).all()
        np.testing.assert_allclose(out["distances"], 1 - out["similarities"], atol=1e-6)


def test_distances_equal_brute_force_and_vanish_at_the_patch_itself():
    rng = np.random.default_rng(0)
    patches, prototypes = (
        rng.random((2, 3, 4, 8), np.float32),
        rng.random((5, 8), np.float32),
    )
    prototypes[2] = patches[1, 2, 3]
    found = np.asarray(squared_distances(jnp.asarray(patches), jnp.asarray(prototypes)))
    brute = ((patches[:, :, :, None].astype(np.float64) - prototypes) ** 2).sum(-1)
    np.testing.assert_allclose(found, brute, atol=1e-5)
    assert (found >= 0).all()
    assert found[1, 2, 3, 2] < 1e-5


def test_log_similarity_by_hand():
    found = log_similarity(jnp.asarray([0.0, 1e-3, 1e-2, 0.1, 1.0]))
    np.testing.assert_allclose(
        found, [9.2103, 6.8135, 4.6053, 2.3970, 0.6931], atol=6e-3
    )  # the reference rounds
    np.testing.assert_allclose(
        found,
        np.log([1e4, 1.001 / 1.1e-3, 1.01 / 1.01e-2, 1.1 / 0.1001, 2 / 1.0001]),
        rtol=1e-5,
    )
    assert np.isclose(LARGEST, np.log(1 / EPSILON))


def test_cosine_of_pooled_features_by_hand():
    patches = jnp.asarray([[[[3.0, 0.0], [0.0, 4.0]]]])  # two positions, two channels
    maps = jnp.asarray(
        [[[[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]]]]
    )  # at the first, nowhere, at both
    pooled = pooled_features(patches, maps, "sum")
    np.testing.assert_allclose(pooled[0], [[3.0, 0.0], [0.0, 0.0], [1.5, 2.0]])
    np.testing.assert_allclose(pooled_features(patches, maps), pooled / 2)
    prototypes = jnp.asarray([[1.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(
        cosine_similarity(pooled, prototypes)[0], [np.sqrt(0.5), 0.0, 0.8], rtol=1e-6
    )


@pytest.mark.slow
def test_a_prototype_that_occurs_nowhere_has_no_nan(images):
    built = network("xprotonet")
    built.occurrence[2].kernel = nnx.Param(jnp.zeros_like(built.occurrence[2].kernel[...]))
    score = jax.jit(
        jax.value_and_grad(lambda images: built(images)[1]["similarities"].sum())
    )
    value, gradient = score(images)
    assert value == 0
    assert np.isfinite(gradient).all()
    assert np.isfinite(
        jax.grad(lambda p: cosine_similarity(jnp.zeros((1, 2, 3)), p).sum())(
            jnp.zeros((2, 3))
        )
    ).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["protopnet", "xprotonet"])
def test_gradients_agree_with_finite_differences(family):
    patches = jax.random.uniform(jax.random.key(1), (1, 2, 2, 3))
    prototypes = jax.random.uniform(jax.random.key(2), (2, 3))
    maps = jax.random.uniform(jax.random.key(3), (1, 2, 2, 2))

    def score(patches, prototypes):
        patches, prototypes = jnp.asarray(patches), jnp.asarray(prototypes)
        if family == "protopnet":
            return log_similarity(squared_distances(patches, prototypes)).max((1, 2)).sum()
        return cosine_similarity(pooled_features(patches, maps), prototypes).sum()

    check_grads(
        jax.jit(score), (patches, prototypes), order=1, modes=["rev"], atol=2e-2, rtol=2e-2
    )


def test_last_layer_starts_at_the_published_weights():
    kernel = np.asarray(network("protopnet").last_layer.kernel[...])
    np.testing.assert_array_equal(kernel[0], [1.0, -0.5, -0.5])
    np.testing.assert_array_equal(kernel[5], [-0.5, -0.5, 1.0])
    np.testing.assert_array_equal(
        network("xprotonet").last_layer.kernel[0], [1.0, 0.0, 0.0]
    )
    np.testing.assert_array_equal(
        network("xprotonet", other_weight=-0.5).last_layer.kernel[0], [1.0, -0.5, -0.5]
    )


@pytest.mark.slow
def test_options_of_xprotonet(images):
    plain, shifted = (
        said(network("xprotonet", shifted=shifted), images)[1] for shifted in (False, True)
    )
    np.testing.assert_allclose(
        shifted["similarities"], (plain["similarities"] + 1) / 2, atol=1e-6
    )
    sigmoid = said(network("xprotonet", occurrence="sigmoid"), images)[1]["occurrence_maps"]
    assert (np.asarray(sigmoid) > 0).all()
    assert (np.asarray(sigmoid) < 1).all()
    summed = said(network("xprotonet", pool="sum"), images)[1]
    np.testing.assert_allclose(summed["similarities"], plain["similarities"], atol=1e-5)


def test_numbers_of_prototypes():
    assert assign_classes(3, 1, None) == (0, 1, 2)
    assert assign_classes(3, [2, 1, 1], None) == (0, 0, 1, 2)
    assert assign_classes(3, 5, [2, 0]) == (2, 0)
    assert network("protopnet", prototype_classes=[0, 1, 1, 2]).prototypes.shape == (4, 6)
    for wrong in (0, True, [1, 1], [1, 0, 1]):
        with pytest.raises(InputError, match="prototypes_per_class"):
            assign_classes(3, wrong, None)
    with pytest.raises(InputError, match="prototype_classes"):
        assign_classes(3, 1, [0, 3])


@pytest.mark.slow
def test_bottleneck_halves_the_channels():
    layers = add_on_layers("bottleneck", 32, 8, rngs=nnx.Rngs(0))
    assert [(each.in_features, each.out_features) for each in layers] == [
        (32, 16),
        (16, 16),
        (16, 8),
        (8, 8),
    ]
    assert apply_layers(layers, jnp.ones((1, 2, 2, 32))).shape == (1, 2, 2, 8)
    assert len(add_on_layers("bottleneck", 8, 8, rngs=nnx.Rngs(0))) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backbone": "protopnet"}, "cannot be a protopnet"),
        ({"add_on": "none", "backbone_arguments": SMALL}, "add_on"),
        ({"backbone": "resent"}, "resnet"),
    ],
)
def test_what_cannot_be_built_says_so(arguments, says):
    with pytest.raises(InputError, match=says):
        build("protopnet", num_classes=3, size=(16, 16), rngs=nnx.Rngs(0), **arguments)
    with pytest.raises(InputError, match="occurrence"):
        network("xprotonet", occurrence="relu")


@pytest.mark.parametrize("family", ["protopnet", "xprotonet"])
def test_saved_weights_load_by_name(family, images, tmp_path):
    built = network(family)
    save_file(weights.entries(built), tmp_path / "model.safetensors")
    arguments = {
        "backbone": "resnet",
        "backbone_arguments": BACKBONES["resnet"],
        "prototypes_per_class": 2,
        "width": 6,
    }
    described = {
        "input_size": [3, 16, 16],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    config = {
        "architecture": family,
        "num_classes": 3,
        "model_args": arguments,
        "pretrained_cfg": described,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = mdm_jax.load_model(tmp_path)
    assert loaded.network.prototype_classes == (0, 0, 1, 1, 2, 2)
    for name in ("similarities", "distances"):
        np.testing.assert_allclose(
            said(loaded, images)[1][name],
            said(built, images)[1][name],
            rtol=1e-3,
            atol=1e-4,
        )
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="needs one, which names its backbone"):
        mdm_jax.load_model(family, weights=tmp_path / "model.safetensors")


def test_a_fresh_twin_has_other_weights_and_the_same_shapes():
    built = network("protopnet")
    twin = reinitialize(built, 1)
    assert [name for name, _ in named_weights(twin)] == [
        name for name, _ in named_weights(built)
    ]
    assert not np.allclose(twin.prototypes[...], built.prototypes[...])
    np.testing.assert_array_equal(twin.last_layer.kernel[...], built.last_layer.kernel[...])


def test_nodes_read_prototypes_and_places(images):
    built = network("protopnet")
    outputs = jax.tree.map(lambda leaf: leaf[0], said(built, images))
    out, (gh, gw, m) = outputs[1], outputs[1]["similarity_maps"].shape
    for j in (0, 5):
        y, x = np.unravel_index(np.argmax(out["similarity_maps"][..., j]), (gh, gw))
        there = np.ravel_multi_index((y, x, j), (gh, gw, m))
        assert nodes.NODES["similarity"](outputs, jnp.int32(j)) == nodes.NODES[
            "similarity_at"
        ](outputs, jnp.int32(there))
        assert np.isclose(
            nodes.NODES["distance"](outputs, jnp.int32(j)), out["distances"][j]
        )
        assert np.isclose(
            nodes.NODES["normalized_similarity"](outputs, jnp.int32(j)),
            out["similarities"][j] / LARGEST,
        )
    assert nodes.targets_of("similarity", outputs) == 6
    assert nodes.targets_of("similarity_at", outputs) == gh * gw * 6
    assert nodes.targets_of("probability", outputs) == 3
    assert nodes.first_target("distance", outputs) == np.argmin(out["distances"])


@pytest.mark.slow
def test_prototypes_are_explained_as_classes_are(images):
    built = network("protopnet")
    asked = {"node": "similarity", "config": mdm_jax.MDMConfig(sizes=(2, 4), steps=2)}
    found = mdm_jax.explain(built, images, [4, 5], **asked)
    _, out = said(built, images)
    np.testing.assert_allclose(
        found.info.activation,
        [out["similarities"][0, 4], out["similarities"][1, 5]],
        rtol=1e-4,
    )
    most = mdm_jax.explain(built, images, None, **asked)
    np.testing.assert_array_equal(most.info.target, np.argmax(out["similarities"], axis=-1))
    with pytest.raises(InputError, match="the node 'similarity' has 6 targets, 0 to 5"):
        mdm_jax.explain(built, images, 6, **asked)
    with pytest.raises(InputError, match="returns no 'occurrence_maps'"):
        mdm_jax.explain(built, images, 0, node=nodes.Entry("occurrence_maps"))
