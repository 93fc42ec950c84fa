"""Pooling and the first convolution: the references' values and gradients, computed another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from mdm_jax.models.layers import PatchProjection, average_pool, max_pool
from mdm_jax.models.stem import first_conv


def windowed(x):
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8, 2), (2, 7, 10, 1), (1, 1, 3, 1)])
def test_max_pool_is_the_windowed_maximum(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    pooled, expected = max_pool(x), windowed(x)
    np.testing.assert_array_equal(pooled, expected)
    weights = jnp.cos(jnp.arange(expected.size, dtype=jnp.float32)).reshape(expected.shape)
    gradients = [
        jax.grad(lambda x, pool=pool: (pool(x) * weights).sum())(x)
        for pool in (max_pool, windowed)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)


@pytest.mark.slow
def test_the_first_of_equals_gets_the_gradient():
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_nan_wins_in_every_place():
    for place in range(9):
        x = jnp.zeros(9).at[place].set(jnp.nan).reshape(1, 3, 3, 1)
        np.testing.assert_array_equal(np.isnan(max_pool(x)), np.isnan(windowed(x)))


def test_average_pool_leaves_out_an_odd_border():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_allclose(average_pool(x)[0, :, :, 0], [[3.0, 5.0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "sides"),
    [(7, (16, 16)), (7, (15, 18)), (3, (9, 8)), (3, (8, 13)), (7, (5, 3))],
)
def test_the_first_convolution_has_the_plain_gradients(kernel, sides):
    layer = first_conv(3, 4, kernel, 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, *sides, 3))

    def plain(weights, x):
        pad = kernel // 2
        return jax.lax.conv_general_dilated(
            x, weights, (2, 2), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(weights, x):
        return layer.conv_general_dilated(
            x, weights, (2, 2), [(kernel // 2,) * 2] * 2, precision=None
        )

    weights = layer.kernel[...]
    np.testing.assert_array_equal(layer(x), plain(weights, x))
    pull = jnp.sin(jnp.arange(layer(x).size, dtype=jnp.float32)).reshape(layer(x).shape)
    pulled = [
        jax.jit(lambda w, x, f=f: jax.vjp(f, w, x)[1](pull))(weights, x)
        for f in (ours, plain)
    ]
    for got, expected in zip(*pulled):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    check_grads(
        lambda x: ours(weights, jnp.asarray(x)),
        (x,),
        order=1,
        modes=["rev"],
        atol=1e-2,
        rtol=1e-2,
    )


def test_the_input_gradient_dilates_nothing():
    layer = first_conv(3, 4, 7, 2, rngs=nnx.Rngs(0))
    jaxpr = str(
        jax.make_jaxpr(jax.grad(lambda x: layer(x).sum()))(jnp.zeros((1, 16, 16, 3)))
    )
    assert "lhs_dilation=(2, 2)" not in jaxpr


@pytest.mark.slow
def test_the_first_convolution_has_tangents_and_second_derivatives():
    layer = first_conv(3, 4, 7, 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 9, 12, 3))

    def energy(x):
        return jnp.sum(layer(x) ** 2)

    _, tangent = jax.jvp(energy, (x,), (x,))
    np.testing.assert_allclose(tangent, 2 * energy(x), rtol=1e-5)
    _, product = jax.jvp(jax.grad(energy), (x,), (x,))
    np.testing.assert_allclose(product, jax.grad(energy)(x), atol=1e-4)


@pytest.mark.slow
def test_a_patch_projection_is_the_convolution_of_its_parameters():
    layer = PatchProjection(3, 5, 4, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(5.0)
    # what is left of a patch at the border is no patch
    x = jax.random.normal(jax.random.key(0), (2, 8, 14, 3))
    convolved = nnx.Conv.__call__(layer, x)
    assert convolved.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(layer(x), convolved, atol=1e-5)
