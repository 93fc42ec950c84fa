"""Results do not depend on what the process tells JAX: 64 bits, strict promotion, debugging."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import patch_network
from jax_settings_worker import results

import mdm_jax
from mdm_jax import InputError, Status
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.network import as_network

OTHER = {
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_INFS": "1",
    "JAX_DEBUG_KEY_REUSE": "1",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_DISABLE_JIT": "1",
}
TESTS = Path(__file__).parents[1]
WORKER = TESTS / "jax_settings_worker.py"


@pytest.mark.slow
def test_every_method_and_metric_gives_the_same_whatever_the_settings(
    tmp_path, compiled_once
):
    expected = results()
    file = tmp_path / "results.npz"
    environment = os.environ | OTHER | {"JAX_COMPILATION_CACHE_DIR": compiled_once}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment["PYTHONPATH"] = os.pathsep.join(
        [*map(str, (TESTS, TESTS / "contracts")), *sys.path]
    )
    subprocess.run([sys.executable, WORKER, file], env=environment, check=True)
    found = np.load(file)
    assert set(found.files) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, 1e-4, 1e-5, err_msg=name)


def test_inside_jax_computes_as_by_default_and_outside_as_told():
    @own_settings()
    def inside():
        mixed = jnp.arange(2) + jnp.ones((2, 2))  # refused where promotion is strict
        assert not jax.config.jax_disable_jit
        return mixed.dtype, jnp.log(-mixed)[1, 1]

    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.transfer_guard("disallow"),
        jax.disable_jit(),
    ):
        dtype, nan = inside()
        assert dtype == jnp.float32
        assert np.isnan(nan)
        assert jax.config.jax_enable_x64
        assert jax.config.jax_debug_nans
        assert jax.config.jax_disable_jit
        assert jax.config.jax_transfer_guard == "disallow"


def test_settings_that_are_so_anyway_are_not_touched(compilations):
    doubled = jax.jit(lambda x: x * 2)
    doubled(np.float32(1))
    with compilations as compiled, own_settings():
        doubled(np.float32(2))
    assert compiled.count == 0


@pytest.mark.parametrize("method", ["random", "occlusion:window=16,stride=16"])
def test_64_bits_and_strict_promotion(images, method):
    scale = jnp.full(3, 1.0, jnp.float32)
    network = lambda x: patch_network(x * scale)  # noqa: E731 (as users write it)
    expected = mdm_jax.explain(network, images[:1], method=method)
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(True):
        found = mdm_jax.explain(network, images[:1], method=method)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert found.saliency.dtype == np.float32


def test_a_nan_of_the_network_is_a_status_under_debug_nans(images):
    broken = lambda x: patch_network(jnp.log(x - 0.95))  # noqa: E731
    whole = lambda x: patch_network(jnp.where(x < 2, x, jnp.log(-x)))  # noqa: E731
    with jax.debug_nans(True):
        with pytest.raises(mdm_jax.NothingToExplain, match="NaN or infinite"):
            mdm_jax.explain(broken, images[:1], method="gradient")
        found = mdm_jax.explain(whole, images[:1], method="gradient")
    assert found.info.status == Status.CONVERGED


def test_weights_of_64_bits_become_those_of_32():
    with jax.enable_x64(True):
        weight = jnp.ones((12, 2))
        module = jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, weight)
        assert weight.dtype == np.float64
        with own_settings():
            network, outputs = as_network(module, (2, 2, 3))
            assert network(jnp.ones((1, 2, 2, 3))).dtype == outputs.dtype == np.float32
            closed, outputs = as_network(
                lambda x: jax.lax.dot(x.reshape(len(x), -1), weight), (2, 2, 3)
            )
            assert closed(jnp.ones((1, 2, 2, 3))).dtype == np.float32
            with pytest.raises(InputError, match=r"float64.*: give its arrays in float32"):
                as_network(lambda x: jax.lax.add(x, weight[:1, :1] + x), (2, 2, 3))
