"""Micro-batches: slices, memory and progress."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import InputError
from mdm_jax.execution import micro_batches, network
from mdm_jax.execution.micro_batches import choose_micro_batch, run_in_micro_batches

pytestmark = pytest.mark.usefixtures("compiled_in_earnest")


def limited(limit, seen):
    """A program whose device holds `limit` rows at a time."""

    def program(values):
        seen.append(len(values))
        if len(values) > limit:
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes."
            )
        return {"twice": 2 * jnp.asarray(values)}

    return program


def test_out_of_memory_halves_the_micro_batch_and_goes_on():
    seen, progress = [], []
    with pytest.warns(RuntimeWarning) as caught:
        result = run_in_micro_batches(
            limited(3, seen), (np.arange(11),), 8, progress.append
        )
    assert [str(w.message) for w in caught] == [
        f"out of memory: going on with {n} images at a time" for n in (4, 2)
    ]
    np.testing.assert_array_equal(result["twice"], 2 * np.arange(11))
    assert seen == [8, 4, 2, 2, 2, 2, 2, 2]
    assert progress == [2, 4, 6, 8, 10, 11]


def test_out_of_memory_in_the_middle_keeps_what_is_done():
    seen = []

    def program(values):
        limit = 4 if len(seen) < 1 else 2
        return limited(limit, seen)(values)

    with pytest.warns(RuntimeWarning, match="out of memory"):
        result = run_in_micro_batches(program, (np.arange(8),), 4, lambda done: None)
    np.testing.assert_array_equal(result["twice"], 2 * np.arange(8))
    assert seen == [4, 4, 2, 2]


def test_a_single_image_too_large_for_memory_is_one_sentence():
    with pytest.raises(InputError, match="not enough memory for a single image"):
        run_in_micro_batches(limited(0, []), (np.arange(3),), 1, lambda done: None)


def test_other_failures_are_not_swallowed():
    def program(values):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        run_in_micro_batches(program, (np.arange(3),), 3, lambda done: None)


def test_the_micro_batch_follows_network_and_memory(monkeypatch, tiny):
    shape = (32, 32, 3)
    each = network.residual_bytes(tiny, shape)
    if jax.default_backend() == "cpu":
        assert choose_micro_batch(tiny, shape, 100) == 1
    device = type(
        "Device",
        (),
        {
            "memory_stats": lambda self: {
                "bytes_limit": 100 * each,
                "bytes_in_use": 10 * each,
            }
        },
    )
    monkeypatch.setattr(micro_batches.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(micro_batches.jax, "local_devices", lambda: [device()])
    assert choose_micro_batch(tiny, shape, 100) == 30
    assert choose_micro_batch(tiny, shape, 5) == 5
