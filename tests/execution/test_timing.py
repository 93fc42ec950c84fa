import time

import jax
import jax.numpy as jnp
import pytest

from mdm_jax.execution.timing import _union_length, stopwatch


def test_spans_within_spans_count_once():
    assert _union_length([]) == 0.0
    assert _union_length([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (7.0, 8.0)]) == pytest.approx(
        6.0
    )


def test_compilation_is_counted_apart():
    function = jax.jit(lambda x: jnp.sin(x) @ x)
    x = jnp.ones((5, 5))
    with stopwatch() as first:
        function(x).block_until_ready()
        time.sleep(0.05)
    with stopwatch() as second:
        function(x).block_until_ready()
    assert 0 < first.compiling < first.total
    assert first.running >= 0.05
    assert second.compiling == 0
