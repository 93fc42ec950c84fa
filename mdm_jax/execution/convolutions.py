"""Convolutions in the one layout that XLA compiles well everywhere, also inside loops.

On CPU, XLA brings a convolution into the layout of its fast kernel only outside of `while` and
`scan`; in a loop, the input gradient of an ordinary convolution then runs several times slower
(jax-ml/jax issue 12868; `experiments/speed/throughput.py` measures it). An optimization is a loop
around exactly that gradient. So the loop body is traced here and every convolution is written in
that layout, with transposes around it where needed; the numbers stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core.primitives import conv_general_dilated_p

from mdm_jax.execution.interpreter import evaluate

# The name of a jitted function that a network calls many times, such as a Transformer's block. It
# stays whole, so that it is lowered once. All other `jit`s are inlined: the text of the program is
# what stored runs of functions are known by.
BLOCK = "network_block"


def canonical(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its convolutions, on CPU, in one layout.

    The layout is [n, spatial ..., c] x [spatial ..., i, o] -> [n, spatial ..., o].
    """

    @wraps(function)
    def rewritten(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*arguments)
        # a new function each time: JAX remembers traces by function, and this one's closure may
        # have changed
        trace = jax.make_jaxpr(lambda *fresh: function(*fresh), return_shape=True)
        closed, shapes = trace(*arguments)
        inputs = jax.tree.leaves(arguments)
        rules = {conv_general_dilated_p: _convolve}
        outputs = evaluate(closed.jaxpr, closed.consts, inputs, rules, whole=BLOCK)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def _convolve(
    lhs: Any, rhs: Any, *, dimension_numbers: lax.ConvDimensionNumbers, **parameters: Any
) -> Any:
    """One convolution: operands into the canonical layout, convolve, transpose the result back."""
    n, c, *spatial = dimension_numbers.lhs_spec
    o, i, *window = dimension_numbers.rhs_spec
    out_n, out_c, *out_spatial = dimension_numbers.out_spec
    rank = lhs.ndim
    image_spec = (0, rank - 1, *range(1, rank - 1))
    window_spec = (rank - 1, rank - 2, *range(rank - 2))
    result = conv_general_dilated_p.bind(
        lax.transpose(lhs, (n, *spatial, c)),
        lax.transpose(rhs, (*window, i, o)),
        dimension_numbers=lax.ConvDimensionNumbers(image_spec, window_spec, image_spec),
        **parameters,
    )
    back = np.argsort([out_n, *out_spatial, out_c])
    return lax.transpose(result, tuple(map(int, back)))
