"""Receptive fields: the box of all pixels that can reach a position of the feature grid.

Also the position's own cell. Fields are found without knowing the network's layers: with a row of
the image set to NaN, exactly those positions are NaN that can see it, whatever the weights, because
NaN times anything is NaN. Maxima, limits and choices are run by rules that keep a NaN, where they
or compiled code may lose it. One forward evaluation for each row and each column, once for a
network and an image size. Where anything is pooled over the whole image or attended to (squeeze and
excitation, a Transformer) the box is the whole image, as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core.primitives import (
    clamp_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    min_p,
    mul_p,
    remat_p,
    select_n_p,
)
from jaxtyping import Array, Float, Int, Key

from mdm_jax.baselines.attribution import NoSettings
from mdm_jax.errors import InputError
from mdm_jax.execution.chunked import map_over
from mdm_jax.execution.interpreter import evaluate
from mdm_jax.metrics.perturbed import chunk_for
from mdm_jax.problem import Problem, begin, report
from mdm_jax.prototypes.maps import read_map
from mdm_jax.types import AnyArray, Explanation, Image, Node, Predict, Status

# Whose positions are looked at.
MAPS = "similarity_maps"


class ReceptiveFields(NamedTuple):
    """Pixels (first, last + 1) that each row and each column of the feature grid sees."""

    rows: Int[AnyArray, "gh 2"]
    columns: Int[AnyArray, "gw 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FieldConfig:
    """The fields of the network for this size of image, found once for many images by `fields`."""

    rows: Any = None
    """`Fields.rows` (leaf); None finds them anew, in as many forward evaluations as the image has
    rows and columns"""
    columns: Any = None
    """`Fields.columns` (leaf)"""

    def check(self) -> None:
        """Raises InputError where one of the two is missing."""
        if (self.rows is None) != (self.columns is None):
            raise InputError(
                "a receptive field needs rows and columns: give both, as receptive_field.fields"
                " returns them"
            )


def find_fields(predict: Predict, shape: tuple[int, ...]) -> ReceptiveFields:
    """The receptive fields of a network's similarity maps for images of `shape` (h, w, c).

    A position sees rows x columns. Exact where convolutions are computed directly, as on CPU; an
    algorithm that works in tiles (Winograd, on a GPU) can show a few pixels more; so can a choice,
    which sees whatever it could choose. A position that sees nothing has the span (0, 0). Raises
    InputError for a network without out["similarity_maps"], and outside `jit` where a position sees
    nothing."""
    height, width, _ = shape
    program = jax.make_jaxpr(lambda image: read_map(predict, image, MAPS))(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )

    def reached_by(where: Array) -> Array:
        """Which positions become NaN when these pixels are."""
        image = jnp.where(where[..., None], jnp.nan, jnp.full(shape, 0.5))
        (maps,) = evaluate(program.jaxpr, program.consts, [image], NAN_KEEPING_RULES)
        return jnp.isnan(maps).any(axis=-1)

    # a field is a product of rows and columns, so each is found alone
    def rows_that_see(row: Array) -> Array:
        where = jnp.broadcast_to(jnp.arange(height)[:, None] == row, (height, width))
        return reached_by(where).any(axis=1)

    def columns_that_see(column: Array) -> Array:
        where = jnp.broadcast_to(jnp.arange(width) == column, (height, width))
        return reached_by(where).any(axis=0)

    # as many images at once as a metric's copies, which fit the same memory
    chunk = chunk_for(shape)
    rows = _spans(map_over(rows_that_see, jnp.arange(height), chunk))
    columns = _spans(map_over(columns_that_see, jnp.arange(width), chunk))
    found = ReceptiveFields(rows, columns)
    if isinstance(rows, jax.core.Tracer) or isinstance(columns, jax.core.Tracer):
        return found  # inside jit there are no values to check
    return check_fields(found)


def check_fields(found: ReceptiveFields) -> ReceptiveFields:
    """The fields. Raises InputError where a position sees nothing of the image."""
    if any((np.asarray(spans)[:, 1] == 0).any() for spans in found):
        raise InputError(
            "a position of the similarity maps sees nothing of the image: it is constant, or an"
            " operation loses the NaN by which receptive fields are found (a step, rounding to"
            " integers, a loop); leave the region receptive_field out"
        )
    return found


def _keep_nan(primitive: Any) -> Callable[..., Array]:
    def rule(*inputs: Any, **parameters: Any) -> Array:
        computed = primitive.bind(*inputs, **parameters)
        for each in inputs:
            # the condition of a choice is a boolean or an integer
            if jnp.issubdtype(jnp.result_type(each), jnp.floating):
                computed = jnp.where(jnp.isnan(each), jnp.nan, computed)
        return computed

    return rule


def _window_maximum(x: Any, **parameters: Any) -> Array:
    largest = jax.lax.reduce_window_max_p.bind(x, **parameters)
    # the sum is NaN where any pixel of the window is
    return largest + 0.0 * jax.lax.reduce_window_sum_p.bind(x, **parameters)


def _inline(*arguments: Any, call_jaxpr: Any, **_: Any) -> list[Any]:
    return evaluate(call_jaxpr.jaxpr, call_jaxpr.consts, arguments, NAN_KEEPING_RULES)


def _inline_remat(*arguments: Any, jaxpr: Any, **_: Any) -> list[Any]:
    return evaluate(jaxpr, (), arguments, NAN_KEEPING_RULES)


# Operations that must not lose a NaN: XLA's maximum on CPU, and so a ReLU, may
# (`xla_cpu_enable_fast_min_max`); a choice by x > 0 does, and XLA makes one of x * (x > 0).
NAN_KEEPING_RULES: dict[Any, Callable[..., Any]] = {
    **{
        primitive: _keep_nan(primitive)
        for primitive in (jax.lax.max_p, min_p, clamp_p, select_n_p, mul_p)
    },
    jax.lax.reduce_window_max_p: _window_maximum,
    custom_jvp_call_p: _inline,
    custom_vjp_call_p: _inline,
    remat_p: _inline_remat,
}


def _spans(seen: Array) -> Int[Array, "g 2"]:
    """First and last + 1 of the pixels [n, g] that each of g sees; (0, 0) for none."""
    spans = jnp.stack(
        [jnp.argmax(seen, axis=0), len(seen) - jnp.argmax(seen[::-1], axis=0)],
        axis=-1,
    )
    # argmax of no true value is 0, which would be a field
    return jnp.where(seen.any(axis=0)[:, None], spans, 0).astype(jnp.int32)


def best_position(
    similarities: Float[Array, "gh gw m"], prototype: Int[Array, ""] | int
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Row and column of the grid where prototype j is most similar, argmax_z s_j(z).

    Of equals the first in reading order."""
    row, column = jnp.divmod(
        jnp.argmax(similarities[..., prototype]), similarities.shape[1]
    )
    return row, column


def cell_box(
    row: Int[Array, ""] | int,
    column: Int[Array, ""] | int,
    grid: tuple[int, ...],
    size: tuple[int, ...],
) -> Int[Array, "4"]:
    """The box (x0, y0, x1, y1) of the pixels whose centers a cell covers; ends exclusive."""
    (top, bottom), (left, right) = (
        _cell(row, grid[0], size[0]),
        _cell(column, grid[1], size[1]),
    )
    return jnp.stack([left, top, right, bottom]).astype(jnp.int32)


def _cell(at: Any, cells: int, pixels: int) -> tuple[Array, Array]:
    """Pixels i with at <= (i + 1/2) cells / pixels < at + 1, in whole numbers."""

    def first_from(edge: Array) -> Array:
        return (2 * edge * pixels - cells + 2 * cells - 1) // (2 * cells)

    return first_from(jnp.asarray(at)), first_from(jnp.asarray(at) + 1)


def field_box(
    found: ReceptiveFields, row: Int[Array, ""] | int, column: Int[Array, ""] | int
) -> Int[Array, "4"]:
    """The box (x0, y0, x1, y1), ends exclusive, of all pixels that reach a position."""
    (top, bottom), (left, right) = (
        jnp.asarray(found.rows)[row],
        jnp.asarray(found.columns)[column],
    )
    return jnp.stack([left, top, right, bottom]).astype(jnp.int32)


def box_mask(box: Int[Array, "4"], size: tuple[int, ...]) -> Float[Array, "h w"]:
    """1 for the pixels of a box (x0, y0, x1, y1), ends exclusive, 0 for the others."""
    y, x = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
    return ((box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])).astype(jnp.float32)


def receptive_field(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "similarity",
    key: Key[Array, ""],
    config: FieldConfig | None = None,
    trace: bool = False,
) -> Explanation:
    """S = 1 on every pixel that can reach the position where prototype j = `target` is most
    similar, 0 on the others.

    Often the whole image in a deep network, whatever the map blown up to the image suggests; the
    saliency is then 1 everywhere. Image [h, w, c] in [0, 1]. Raises InputError for a network
    without out["similarity_maps"]. Arguments against reading the upsampled map as a place: PixPNet,
    arXiv 2309.14531."""
    config = config or FieldConfig()
    config.check()
    problem = begin(predict, image, target, node=node, key=key)
    row, column = best_position(read_map(predict, image, MAPS), problem.target)
    found = (
        find_fields(predict, image.shape)
        if config.rows is None
        else ReceptiveFields(config.rows, config.columns)
    )
    forwards = 1 if config.rows is not None else 1 + image.shape[0] + image.shape[1]
    return _explain_box(
        predict,
        problem,
        box_mask(field_box(found, row, column), image.shape[:2]),
        node,
        forwards,
    )


def cell(
    predict: Predict,
    image: Image,
    target: Int[Array, ""] | int | None = None,
    *,
    node: str | Node = "similarity",
    key: Key[Array, ""],
    config: NoSettings | None = None,
    trace: bool = False,
) -> Explanation:
    """S = 1 on the cell of the upsampled grid at prototype j = `target`'s best position, else 0.

    See `receptive_field`."""
    problem = begin(predict, image, target, node=node, key=key)
    similarities = read_map(predict, image, MAPS)
    row, column = best_position(similarities, problem.target)
    box = cell_box(row, column, similarities.shape[:2], image.shape[:2])
    return _explain_box(predict, problem, box_mask(box, image.shape[:2]), node, 1)


def _explain_box(
    predict: Predict,
    problem: Problem,
    region: Float[Array, "h w"],
    node: str | Node,
    forwards: int,
) -> Explanation:
    """The explanation of a region of ones.

    It is not stretched: a box that is the whole image stays one."""
    status = jnp.where(
        jnp.isfinite(problem.reference).all(),
        jnp.int32(Status.CONVERGED),
        jnp.int32(Status.NOT_FINITE),
    )
    info = report(predict, problem, region, node=node, status=status, forwards=forwards)
    return Explanation(region, (), info, None, region)
