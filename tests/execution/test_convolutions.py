"""Convolutions rewritten into the canonical layout compute the same, and are written so in the
compiled loop."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mdm_jax.execution.convolutions import canonical

CASES = {
    "nhwc": ("NHWC", "HWIO", "NHWC", {}),
    "nchw": ("NCHW", "OIHW", "NCHW", {}),
    "mixed": ("NHWC", "OHWI", "NCHW", {}),
    "strided": ("NHWC", "HWIO", "NHWC", {"window_strides": (2, 2)}),
    "dilated": ("NHWC", "HWIO", "NHWC", {"rhs_dilation": (2, 2)}),
    "transposed": ("NHWC", "HWIO", "NHWC", {"lhs_dilation": (2, 2)}),
    "grouped": ("NHWC", "HWIO", "NHWC", {"feature_group_count": 2}),
}


def problem(case):
    lhs_spec, rhs_spec, out_spec, options = CASES[case]
    sizes = {"N": 2, "H": 9, "W": 8, "C": 4}
    window = {"H": 3, "W": 3, "I": 4 // options.get("feature_group_count", 1), "O": 6}
    keys = jax.random.split(jax.random.key(0))
    lhs = jax.random.normal(keys[0], [sizes[axis] for axis in lhs_spec])
    rhs = jax.random.normal(keys[1], [window[axis] for axis in rhs_spec])

    def function(lhs, rhs):
        options_ = {"window_strides": (1, 1), "padding": "SAME"} | options
        if "lhs_dilation" in options:
            options_["padding"] = [(1, 1), (1, 1)]
        out = lax.conv_general_dilated(
            lhs, rhs, dimension_numbers=(lhs_spec, rhs_spec, out_spec), **options_
        )
        return jnp.sum(jnp.sin(jax.nn.relu(out)))

    return jax.value_and_grad(function, argnums=(0, 1)), lhs, rhs


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_same(case):
    function, lhs, rhs = problem(case)
    expected, found = function(lhs, rhs), canonical(function)(lhs, rhs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
    )


@pytest.mark.parametrize("case", ["nhwc", "nchw"])
def test_under_jit_vmap_and_scan(case):
    function, lhs, rhs = problem(case)

    def descend(lhs):
        def body(lhs, _):
            value, (gradient, _) = canonical(function)(lhs, rhs)
            return lhs - 0.01 * gradient, value

        return lax.scan(body, lhs, None, length=3)[1]

    both = jnp.stack([lhs, 0.5 * lhs])
    together = jax.jit(jax.vmap(descend))(both)
    np.testing.assert_allclose(together[1], descend(0.5 * lhs), rtol=1e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the rewriting is for CPU")
def test_every_convolution_of_a_gradient_in_a_loop_is_canonical():
    """Inside a loop XLA leaves `b01f_01oi->b01f`, the input gradient's own layout, to a slow
    kernel."""
    function, lhs, rhs = problem("nhwc")

    def loop(gradient_of, lhs):
        return lax.fori_loop(0, 3, lambda _, x: x - 0.01 * gradient_of(x, rhs)[1][0], lhs)

    def layouts(gradient_of):
        text = jax.jit(loop, static_argnums=0).lower(gradient_of, lhs).compile().as_text()
        return set(re.findall(r"dim_labels=(b01f_\w+->b01f)", text))

    assert "b01f_01oi->b01f" in layouts(function)
    assert layouts(canonical(function)) == {"b01f_01io->b01f"}


def test_what_is_not_a_convolution_passes_through():
    def function(x, key):
        y = jax.checkpoint(jnp.sin)(x) + jax.random.uniform(key, x.shape)
        return {
            "sorted": jnp.sort(y),
            "looped": lax.fori_loop(0, 2, lambda i, v: v + i, y),
        }, x.sum()

    arguments = jnp.arange(3.0), jax.random.key(1)
    jax.tree.map(
        np.testing.assert_array_equal, canonical(function)(*arguments), function(*arguments)
    )


def test_blocks_of_a_network_stay_whole():
    """So that what is called often is lowered once; with a convolution inside it is rewritten."""

    @jax.jit
    def network_block(x):
        return jnp.tanh(x) * 2

    def convolution(x):
        return lax.conv(x, jnp.ones((1, 1, 3, 3)), (1, 1), "SAME")

    convolution.__name__ = "network_block"
    convolved, other = jax.jit(convolution), jax.jit(lambda x: x + 1)

    def network(x):
        return network_block(network_block(other(convolved(x))))

    x = jnp.arange(16.0).reshape(1, 1, 4, 4)
    function = canonical(network)
    names = [each.params.get("name") for each in jax.make_jaxpr(function)(x).eqns]
    assert [name for name in names if name] == ["network_block"] * 2
    np.testing.assert_array_equal(function(x), network(x))
