"""Similarity of maps against scikit-image and SciPy; parameter randomization and spread over
seeds."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mdm_jax import InputError, explain, load_model
from mdm_jax.data.digits import Digits
from mdm_jax.metrics import METRICS, Sample, sanity, similarity
from mdm_jax.models import architectures
from mdm_jax.models.densenet import DenseNet
from mdm_jax.models.fold_batch_norm import fold_batch_norms
from mdm_jax.models.reinitialize import (
    constructor_arguments,
    copy_weights,
    named_weights,
    reinitialize,
    weight_shapes,
)
from mdm_jax.models.resnet import ResNet
from mdm_jax.models.vit import ViT

FIXTURE = Path(__file__).parents[1] / "fixtures" / "similarity.npz"
spearman, ssim, hog_spearman = (
    jax.jit(each)
    for each in (similarity.spearman, similarity.ssim, similarity.hog_spearman)
)
hog = jax.jit(similarity.hog)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_similarities_are_those_of_scikit_image_and_scipy(number):
    stored = np.load(FIXTURE)
    a, b = (jnp.float32(stored[f"{name}{number}"] / 255.0) for name in "ab")
    assert ssim(a, b) == pytest.approx(stored[f"ssim{number}"], abs=1e-5)
    assert spearman(a, b) == pytest.approx(stored[f"spearman{number}"], abs=1e-5)
    np.testing.assert_allclose(hog(a), stored[f"hog{number}"], atol=1e-5)
    assert hog_spearman(a, b) == pytest.approx(stored[f"hog_spearman{number}"], abs=1e-4)


def test_ranks_of_ties_are_shared():
    np.testing.assert_array_equal(
        similarity.ranks(jnp.array([3.0, 1.0, 3.0, 2.0, 3.0])), [3, 0, 3, 1, 3]
    )


@pytest.mark.slow
@pytest.mark.parametrize("compare", [spearman, ssim, hog_spearman])
def test_a_map_is_most_like_itself_and_never_undefined(compare):
    a, b = (
        jnp.float32(np.random.default_rng(seed).uniform(0, 1, (32, 32))) for seed in (0, 1)
    )
    assert compare(a, a) == pytest.approx(1.0, abs=1e-5)
    assert abs(float(compare(a, b))) < 0.3
    assert compare(a, b) == pytest.approx(float(compare(b, a)), abs=1e-6)
    for flat in (jnp.zeros((32, 32)), jnp.full((32, 32), 0.4)):
        assert -1 <= compare(a, flat) <= 0.3
        assert compare(flat, flat) == pytest.approx(
            1.0 if compare.__name__ == "ssim" else 0.0, abs=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(12, 10), (24, 40), (7, 13)])
def test_constant_maps_rank_nothing_whatever_their_size(shape):
    """The mean of their ranks is not exact in float32, if it is summed up and divided."""
    flat, drawn = jnp.full(shape, 0.7), jax.random.uniform(jax.random.key(0), shape)
    assert (
        spearman(flat, flat)
        == spearman(flat, drawn)
        == similarity.spearman(flat, flat)
        == 0.0
    )


def test_a_nan_is_not_ranked():
    drawn = jax.random.uniform(jax.random.key(0), (32, 32))
    for compare in (spearman, ssim, hog_spearman):
        assert jnp.isnan(compare(drawn, drawn.at[3, 4].set(jnp.nan)))


def test_spearman_sees_ranks_alone():
    a = jnp.float32(np.random.default_rng(0).uniform(0, 1, (32, 32)))
    assert spearman(a, jnp.exp(5 * a)) == pytest.approx(1.0, abs=1e-6)
    assert spearman(a, -a) == pytest.approx(-1.0, abs=1e-6)


def test_maps_too_small_to_compare_are_refused():
    with pytest.raises(InputError, match="8x40 are too small for SSIM"):
        similarity.ssim(jnp.zeros((8, 40)), jnp.zeros((8, 40)))
    with pytest.raises(InputError, match="40x64 has less than 3 cells of 16"):
        similarity.hog(jnp.zeros((40, 64)))


SMALL = {
    "resnet": lambda rngs: ResNet(
        num_classes=3, widths=(4, 8), depths=(1, 2), stem="strided", rngs=rngs
    ),
    "bottleneck": lambda rngs: ResNet(
        num_classes=3,
        widths=(4,),
        depths=(1,),
        block="bottleneck",
        stem="imagenet",
        rngs=rngs,
    ),
    "densenet": lambda rngs: DenseNet(
        num_classes=3, growth=2, initial=4, blocks=(1, 2), channels=1, rngs=rngs
    ),
    "vit": lambda rngs: ViT(
        num_classes=3,
        size=(8, 12),
        patch=4,
        width=12,
        depth=2,
        heads=3,
        stem="conv",
        distilled=True,
        rngs=rngs,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, "resnet50", "deit_tiny_distilled_patch16_224"])
def test_an_architecture_is_read_off_a_network(name):
    if name in SMALL:
        network = nnx.eval_shape(lambda: SMALL[name](nnx.Rngs(0)))
    else:
        network = architectures.build_shapes(name, num_classes=5, size=(224, 224))
    family, arguments = constructor_arguments(network)
    again = nnx.eval_shape(lambda: family(**arguments, rngs=nnx.Rngs(0)))
    assert type(again) is type(network)
    assert weight_shapes(again) == weight_shapes(network)


@pytest.mark.slow
def test_a_fresh_network_is_what_its_constructor_gives():
    expected = SMALL["bottleneck"](nnx.Rngs(7))
    network = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(1), expected)
    changed = reinitialize(network, 7)
    jax.tree.map(
        np.testing.assert_array_equal,
        dict(named_weights(changed)),
        dict(named_weights(expected)),
    )
    assert jax.tree.structure(changed) == jax.tree.structure(network)
    folded = reinitialize(fold_batch_norms(network), 7)
    jax.tree.map(
        np.testing.assert_array_equal,
        dict(named_weights(folded)),
        dict(named_weights(fold_batch_norms(expected))),
    )


def test_weights_of_another_architecture_are_refused():
    network = nnx.eval_shape(lambda: SMALL["resnet"](nnx.Rngs(0)))
    with pytest.raises(InputError, match="is of another architecture"):
        copy_weights(network, nnx.eval_shape(lambda: SMALL["bottleneck"](nnx.Rngs(0))))
    with pytest.raises(InputError, match="Linear cannot be built anew"):
        reinitialize(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), 0)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet", (32, 32, 3), ["fc", "layer2.1", "layer2.0", "layer1.0", "bn1", "conv1"]),
        (
            "densenet",
            (16, 16, 1),
            ["classifier", "features.norm5", "features.denseblock2", "features.transition1"]
            + ["features.denseblock1", "features.norm0", "features.conv0"],
        ),
        ("vit", (8, 12, 3), ["head_dist", "head", "norm", "blocks.1", "blocks.0"]),
    ],
)
def test_parts_run_from_the_logits_down(name, shape, expected):
    blank = nnx.eval_shape(lambda: SMALL[name](nnx.Rngs(0)))
    network = nnx.view(
        blank, deterministic=True, use_running_average=True, raise_if_not_found=False
    )
    found = sanity.parts(network, shape)
    assert list(found)[: len(expected)] == expected
    assert sorted(name for names in found.values() for name in names) == sorted(
        name for name, _ in named_weights(network)
    )
    assert "layer2" in sanity.parts(network, shape, depth=1) or name != "resnet"


def weights_changed(before, after):
    before, after = dict(named_weights(before)), dict(named_weights(after))
    return {name for name, leaf in before.items() if not np.array_equal(leaf, after[name])}


def test_cascading_keeps_what_it_randomized_and_independent_does_not(tiny):
    stages = list(sanity.randomize(tiny, shape=(32, 32, 3)))
    alone = list(sanity.randomize(tiny, shape=(32, 32, 3), mode="independent"))
    kernels = {
        name for name, _ in named_weights(tiny) if name.endswith("kernel")
    }  # fresh norms and biases are as they were
    seen: set[str] = set()
    for (part, network), (same, single) in zip(stages, alone, strict=True):
        own = weights_changed(tiny, single)
        assert part == same
        assert all(name.startswith(part) for name in own)
        seen |= own
        assert weights_changed(tiny, network) == seen
    assert seen == kernels


@pytest.mark.slow
def test_cascade_of_a_gradient(tiny, images):
    stages = sanity.cascade(tiny, images, method="gradient")
    assert [stage.part for stage in stages] == [
        "original",
        "fc",
        "layer2.0",
        "layer1.0",
        "bn1",
        "conv1",
    ]
    for values in stages[0].similarity.values():
        np.testing.assert_allclose(values, 1.0, atol=1e-5)
    assert all(
        values.shape == (3,) for stage in stages for values in stage.similarity.values()
    )
    np.testing.assert_array_equal(
        stages[0].saliency, explain(tiny, images, method="gradient").saliency
    )
    for stage in stages[2:]:
        assert stage.similarity["spearman"].mean() < 0.9
    target = explain(tiny, images, method="gradient").info.target
    _, last = list(sanity.randomize(tiny, shape=(32, 32, 3)))[-1]
    np.testing.assert_array_equal(
        stages[-1].saliency, explain(last, images, target, method="gradient").saliency
    )


def test_what_cannot_be_randomized_is_named(tiny):
    with pytest.raises(InputError, match="function cannot be randomized"):
        next(sanity.randomize(lambda images: images.mean((1, 2))))
    with pytest.raises(InputError, match="give their shape"):
        next(sanity.randomize(tiny))
    with pytest.raises(InputError, match="unknown mode 'cascade'"):
        next(sanity.randomize(tiny, mode="cascade", shape=(32, 32, 3)))


def spread_of(draw):
    """The metric for a method whose map is `draw(key)`."""
    flat = jnp.zeros((16, 16))
    sample = Sample(flat[..., None], flat, flat, flat, jnp.int32(0))
    measure = METRICS["spread:seeds"].measure
    return jax.jit(
        lambda key: measure(
            None, sample, key=key, explain=lambda image, target, key: draw(key)
        )
    )(jax.random.key(0))


@pytest.mark.slow
def test_spread_over_seeds_of_known_methods():
    fixed = jax.random.uniform(jax.random.key(1), (16, 16))
    assert spread_of(lambda key: fixed) == pytest.approx(1.0, abs=1e-6)
    assert abs(spread_of(lambda key: jax.random.uniform(key, (16, 16)))) < 0.2
    assert 0.2 < spread_of(lambda key: fixed + jax.random.uniform(key, (16, 16))) < 0.8
    assert spread_of(lambda key: jnp.zeros((16, 16))) == 0.0


@pytest.mark.slow
def test_mdm_depends_on_the_weights_and_not_on_the_seed():
    """The digits network: after randomizing every part the maps are others, nor are they the
    opposite; with another key they are the same, because nothing in the default settings is drawn
    at random."""
    classifier, digits = load_model("resnet"), Digits("test")
    images = np.stack([digits[index].image for index in range(8)])
    original = explain(classifier, images)
    *_, (_, changed) = sanity.randomize(classifier)
    other = explain(changed, images, original.info.target)
    again = explain(classifier, images, original.info.target, key=1)
    correlation = jax.jit(jax.vmap(similarity.spearman))
    assert abs(correlation(original.saliency, other.saliency).mean()) <= 0.3
    assert correlation(original.saliency, again.saliency).min() >= 0.9
