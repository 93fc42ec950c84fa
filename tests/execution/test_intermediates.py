"""Values and gradients of named intermediates: those of a network split by hand, and one sentence
where there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mdm_jax import InputError
from mdm_jax.execution import feature_maps, intermediates
from mdm_jax.execution.network import as_network
from mdm_jax.models.densenet import DenseNet
from mdm_jax.models.resnet import ResNet
from mdm_jax.models.vit import ViT

SHAPE = (8, 12, 3)
WEIGHTS = (
    jax.random.normal(jax.random.key(0), (3, 5)),
    jax.random.normal(jax.random.key(1), (5, 2)),
)


def first(images):
    return jnp.tanh(images @ WEIGHTS[0])


def second(hidden):
    return jnp.square(hidden).mean((1, 2)) @ WEIGHTS[1]


def plain(images):
    hidden = first(images)
    return second(hidden), {"z_first": hidden, "a_pooled": jnp.square(hidden).mean((1, 2))}


def score(outputs):
    return outputs[0][1]


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(jax.random.key(2), SHAPE)


def by_hand(image):
    return jax.grad(lambda hidden: second(hidden[None])[0, 1])(first(image[None])[0])


def small_vit(**more):
    network = ViT(
        num_classes=3,
        size=(16, 24),
        patch=8,
        width=8,
        depth=2,
        heads=2,
        rngs=nnx.Rngs(0),
        **more,
    )
    return as_network(network, (16, 24, 3))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        jax.jit,
        lambda f: as_network(f, SHAPE)[0],
        lambda f: lambda x: jax.jit(f)(x),
    ],
)
def test_a_tap_equals_the_gradient_of_the_network_split_by_hand(wrap, image):
    program = intermediates.trace(wrap(plain), SHAPE)
    value, gradient = intermediates.value_and_gradient(program, image, "z_first", score)
    np.testing.assert_allclose(value, first(image[None])[0], atol=1e-6)
    np.testing.assert_allclose(gradient, by_hand(image), atol=1e-7)
    np.testing.assert_allclose(
        intermediates.values(program, image, "z_first"), value, atol=1e-6
    )
    assert np.abs(gradient).max() > 1e-4


def test_within_jit_and_vmap_with_traced_weights(image):
    @jax.jit
    def gradients(scale, images):
        def network(x):
            hidden = first(x) * scale
            return second(hidden), {"hidden": hidden}

        def one(image):
            return intermediates.value_and_gradient(
                intermediates.trace(network, SHAPE), image, "hidden", score
            )[1]

        return jax.vmap(one)(images)

    images = jnp.stack([image, image[::-1]])
    expected = jax.vmap(jax.grad(lambda hidden: second(hidden[None])[0, 1]))(
        2.0 * first(images)
    )
    np.testing.assert_allclose(gradients(2.0, images), expected, atol=1e-6)


def test_a_view_that_only_out_holds_is_followed_back(image):
    def channels_first(images):
        hidden = jnp.moveaxis(first(images), -1, 1)
        logits = jnp.square(hidden).mean((2, 3)) @ WEIGHTS[1]
        return logits, {"map": jnp.moveaxis(hidden, 1, -1).astype(jnp.float32)}

    value, gradient = intermediates.value_and_gradient(
        intermediates.trace(channels_first, SHAPE), image, "map", score
    )
    np.testing.assert_allclose(value, first(image[None])[0], atol=1e-6)
    np.testing.assert_allclose(gradient, by_hand(image), atol=1e-7)


def test_a_network_that_vmaps_one_image_inside(image):
    def batched(images):
        return jax.vmap(lambda x: jax.tree.map(lambda leaf: leaf[0], plain(x[None])))(
            images
        )

    gradient = intermediates.value_and_gradient(
        intermediates.trace(batched, SHAPE), image, "z_first", score
    )[1]
    np.testing.assert_allclose(gradient, by_hand(image), atol=1e-7)


def test_names_shapes_and_order_of_computation():
    def nested(images):
        hidden = first(images)
        logits, out = plain(images)
        return logits + second(hidden), {
            "b": {"deep": hidden},
            "a": [hidden + 1, hidden + 2],
        } | out

    assert intermediates.available(nested, SHAPE) == {
        "b/deep": (8, 12, 5),
        "z_first": (8, 12, 5),
        "a_pooled": (5,),
        "a": [(8, 12, 5), (8, 12, 5)],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (ResNet(widths=(4, 8), depths=(1, 1), rngs=nnx.Rngs(0)), "layer2"),
        (DenseNet(growth=4, initial=8, blocks=(1, 1), rngs=nnx.Rngs(0)), "block2"),
        (ViT(size=(32, 32), width=8, depth=2, heads=2, rngs=nnx.Rngs(0)), "norm1"),
        (
            ViT(
                size=(32, 32),
                width=8,
                depth=2,
                heads=2,
                stem="conv",
                remat=True,
                rngs=nnx.Rngs(0),
            ),
            "norm1",
        ),
    ],
)
def test_default_layer_of_every_family_also_behind_jit(network, layer):
    predict = as_network(network, (32, 32, 3))[0]
    for each in (predict, jax.jit(lambda x: predict(x))):  # jit sorts the keys of `out`
        assert (
            intermediates.default_layer(intermediates.trace(each, (32, 32, 3)), (32, 32, 3))
            == layer
        )


def test_the_default_layer_lies_on_the_way_and_is_larger_than_a_pixel():
    def network(images):
        hidden = first(images)
        pooled = jnp.square(hidden).mean((1, 2), keepdims=True)
        return pooled[:, 0, 0] @ WEIGHTS[1], {
            "hidden": hidden,
            "pooled": pooled,
            "aside": jnp.sin(pooled + hidden),
        }

    assert (
        intermediates.default_layer(intermediates.trace(network, SHAPE), SHAPE) == "hidden"
    )


@pytest.mark.slow
def test_what_enters_the_last_attention_moves_the_logits_through_every_patch():
    program = intermediates.trace(small_vit(), (16, 24, 3))
    image = jax.random.uniform(jax.random.key(3), (16, 24, 3))
    gradient = intermediates.value_and_gradient(program, image, "norm1", score)[1]
    assert gradient.shape == (1 + 2 * 3, 8)
    assert (np.abs(gradient).max(axis=1) > 0).all()
    behind = intermediates.value_and_gradient(program, image, "norm", score)[1]
    assert (np.abs(behind[1:]) == 0).all()


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (17, (32, 32), (4, 4)),
        (18, (32, 32), (4, 4)),
        (25, (32, 48), (4, 6)),
        (16, (8, 8), (4, 4)),
        (261, (224, 224), (16, 16)),
    ],
)
def test_patches_behind_class_distillation_and_register_tokens(tokens, size, grid):
    assert feature_maps.patch_grid(tokens, size) == grid
    value = jnp.arange(tokens, dtype=jnp.float32)[:, None]
    laid = feature_maps.as_map(value, size, "tokens")[..., 0]
    np.testing.assert_array_equal(
        laid.reshape(-1), np.arange(tokens - grid[0] * grid[1], tokens)
    )


def failing(program_of, name="hidden", predict=None):
    intermediates.value_and_gradient(
        intermediates.trace(predict or program_of, SHAPE), jnp.ones(SHAPE), name, score
    )


def test_one_sentence_for_each_mistake():
    def returning(make):
        def network(images):
            hidden = first(images)
            return second(hidden), make(hidden)

        return network

    def looped(images):
        def body(carry, _):
            hidden = jnp.tanh(carry)
            return hidden, hidden

        hidden, each = jax.lax.scan(body, first(images), None, length=1)
        return second(hidden), {"hidden": each[0]}

    with pytest.raises(InputError, match="returns logits alone"):
        failing(lambda images: plain(images)[0])
    with pytest.raises(InputError, match="did you mean 'z_first'"):
        failing(plain, "zfirst")
    with pytest.raises(
        InputError, match="do not depend on out\\['hidden'\\]: it is a copy"
    ):
        failing(returning(lambda hidden: {"hidden": hidden + 0.0}))
    with pytest.raises(InputError, match="remat"):
        failing(looped)
    with pytest.raises(InputError, match=r"GradCAM\(layer=...\)"):
        intermediates.default_layer(
            intermediates.trace(
                returning(lambda hidden: {"f": hidden.mean((1, 2))}), SHAPE
            ),
            SHAPE,
        )
    with pytest.raises(InputError, match="is of shape \\(5,\\) for one image"):
        feature_maps.as_map(jnp.ones(5), SHAPE[:2], "a_pooled")
    with pytest.raises(InputError, match="is a list for one image"):
        feature_maps.as_map([jnp.ones(5)], SHAPE[:2], "a")
    with pytest.raises(InputError, match="an empty dictionary"):
        intermediates.default_layer(
            intermediates.trace(returning(lambda hidden: {}), SHAPE), SHAPE
        )


def test_tokens_without_a_known_last_attention_must_be_named():
    def network(images):
        tokens = first(images).reshape(len(images), -1, 5)
        return jnp.square(tokens).mean(1) @ WEIGHTS[1], {"tokens": tokens}

    with pytest.raises(InputError, match="name one of tokens by"):
        intermediates.default_layer(intermediates.trace(network, SHAPE), SHAPE)


def test_attention_is_asked_for_where_it_can_be():
    shape = (16, 24, 3)
    asked = intermediates.with_attention(small_vit(), shape)
    assert intermediates.available(asked, shape)["attention"] == [(2, 7, 7)] * 2
    assert intermediates.with_attention(asked, shape) is asked
    for network in (
        plain,
        as_network(plain, shape)[0],
        as_network(ResNet(widths=(4,), depths=(1,), rngs=nnx.Rngs(0)), shape)[0],
    ):
        with pytest.raises(InputError, match="returns no attention"):
            intermediates.with_attention(network, shape)


def test_attention_within_rematerialized_blocks_says_so():
    shape = (16, 24, 3)
    program = intermediates.trace(
        intermediates.with_attention(small_vit(remat=True), shape), shape
    )
    with pytest.raises(InputError, match="build the network without remat"):
        intermediates.value_and_gradient(program, jnp.ones(shape), "attention", score)
