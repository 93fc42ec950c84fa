"""Convolutions in the one layout that XLA compiles well everywhere, also inside loops.

On CPU, XLA brings a convolution into the layout of its fast kernel only outside of `while` and
`scan`; in a loop, the input gradient of an ordinary convolution then runs several times slower
(jax-ml/jax issue 12868; `experiments/speed/throughput.py` measures it). An optimization is a loop
around just that gradient. So the loop body is traced here and every convolution is written in that
layout, transposing around it where it must; the numbers stay the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core.primitives import conv_general_dilated_p

from mdm_jax.execution.interpreter import evaluate


def canonical(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with every convolution in the layout [n, spatial ..., c] x [spatial ..., i, o],
    where that helps (CPU)."""

    @wraps(function)
    def rewritten(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        closed, shapes = jax.make_jaxpr(lambda *fresh: function(*fresh), return_shape=True)(
            *arguments
        )
        outputs = evaluate(
            closed.jaxpr,
            closed.consts,
            jax.tree.leaves(arguments),
            {conv_general_dilated_p: _convolve},
        )
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def _convolve(
    lhs: Any, rhs: Any, *, dimension_numbers: lax.ConvDimensionNumbers, **parameters: Any
) -> Any:
    """One convolution: transpose the operands into the canonical layout, convolve, transpose the
    result back."""
    (n, c, *at), (o, i, *window), (to_n, to_c, *to) = dimension_numbers
    rank = lhs.ndim
    image_spec, window_spec = (
        (0, rank - 1, *range(1, rank - 1)),
        (rank - 1, rank - 2, *range(rank - 2)),
    )
    result = conv_general_dilated_p.bind(
        lax.transpose(lhs, (n, *at, c)),
        lax.transpose(rhs, (*window, i, o)),
        dimension_numbers=lax.ConvDimensionNumbers(image_spec, window_spec, image_spec),
        **parameters,
    )
    return lax.transpose(result, tuple(int(k) for k in np.argsort([to_n, *to, to_c])))
