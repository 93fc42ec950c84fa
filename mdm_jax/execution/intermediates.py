"""Named intermediates of a network: their values and d g / d out[name], without hooks.

A network that returns `(logits, out)` is traced to a jaxpr, in which the variable returned as
`out[name]` is the one that the rest of the network goes on with. Adding a zero there, a tap, makes

    d g(f(x; tap)) / d tap  at  tap = 0   =   d g / d out[name],

one forward and one backward pass that ends at the intermediate. Nothing is compiled or run to find
names and shapes. JAX and Flax have taps of their own only for modules that are written for them
(`nnx.Module.perturb`); this one serves any function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import InputError, unknown
from mdm_jax.execution.dependence import equations_behind, is_literal, upstream_of
from mdm_jax.execution.feature_maps import is_map, is_patch_tokens
from mdm_jax.execution.gradients import WithoutGradient, require_gradient
from mdm_jax.execution.interpreter import evaluate, evaluate_equations
from mdm_jax.execution.network import Traced
from mdm_jax.types import Image, Predict

# The entry of `out` with the tokens that enter a Transformer's last attention (as
# pytorch-grad-cam's `blocks[-1].norm1`); after it the patches' tokens no longer reach the logits,
# so a CAM must use this entry.
LAST_NORM = "norm1"

# Primitives that hand on the same numbers in another form.
VIEWS = frozenset(
    {
        "transpose",
        "reshape",
        "squeeze",
        "expand_dims",
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
    }
)


class TracedNetwork(NamedTuple):
    """A network traced for one image, with the names of the variables that it returns in `out`."""

    jaxpr: Any
    constants: list[Any]
    outputs: Any
    """tree of the outputs"""
    entries: dict[str, Any]
    """name -> variable, or list of variables, in the order in which the network computes them;
    "a/b" for nested names"""
    upstream: frozenset[Any]
    """variables that the logits depend on"""
    made_by: dict[Any, Any]
    """variable -> the equation that computes it"""


def trace(predict: Predict, shape: tuple[int, ...]) -> TracedNetwork:
    """The network traced for one image of `shape` (height, width, channels), `jit`s inlined.

    Raises InputError for a network that returns no dictionary of intermediates beside its logits.
    """
    closed, shapes = _one_image(predict, shape)
    inline = jax.make_jaxpr(lambda image: evaluate(closed.jaxpr, closed.consts, [image]))
    inlined = inline(_abstract(shape))
    jaxpr = inlined.jaxpr
    outputs = jax.tree.structure(shapes)
    variables = jax.tree.unflatten(outputs, jaxpr.outvars)
    has_second = isinstance(variables, tuple | list) and len(variables) > 1
    if not (has_second and isinstance(variables[1], Mapping)):
        raise InputError(
            "the network returns logits alone, no intermediates: return (logits, out) with out a"
            " dictionary of named arrays"
        )
    made_by = {}
    position = {}
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.outvars:
            made_by[variable] = equation
            position[variable] = number

    def last_position(entry: tuple[str, Any]) -> int:
        leaves = jax.tree.leaves(entry[1])
        positions = [position.get(leaf, -1) for leaf in leaves if not is_literal(leaf)]
        return max(positions, default=-1)

    entries = dict(sorted(_named(variables[1]), key=last_position))
    upstream = upstream_of(jaxpr, jax.tree.leaves(variables[0]))
    return TracedNetwork(jaxpr, inlined.consts, outputs, entries, upstream, made_by)


def available(predict: Predict, shape: tuple[int, ...]) -> dict[str, Any]:
    """The shapes of a network's intermediates for one image, in the order of computation.

    name -> shape without the batch axis, or a list of shapes where the network returns a list.
    Raises InputError as `trace` does.
    """
    entries = trace(predict, shape).entries
    return {
        name: jax.tree.map(lambda leaf: tuple(leaf.aval.shape[1:]), entry)
        for name, entry in entries.items()
    }


def default_layer(program: TracedNetwork, shape: tuple[int, ...]) -> str:
    """The intermediate that a CAM uses by default.

    The last map [h, w, c] that the logits depend on, larger than one pixel a side: a ResNet's last
    stage, a DenseNet's last block after its norm and ReLU. A Transformer's is `LAST_NORM`. Raises
    InputError for a network that has neither.
    """
    on_the_way = []
    for name, entry in program.entries.items():
        if _source(program, entry) is not None:
            on_the_way.append(name)
    candidates = [
        name for name in on_the_way if name == LAST_NORM or is_map(program.entries[name])
    ]
    if candidates:
        return candidates[-1]
    if not program.entries:
        raise InputError(
            "the network returns an empty dictionary of intermediates: a CAM needs a feature map"
            " in it"
        )
    tokens = [name for name in on_the_way if is_patch_tokens(program.entries[name], shape)]
    if tokens:
        raise InputError(
            "the network has no feature map [h, w, c] and does not say which tokens enter its last"
            f" attention: name one of {', '.join(tokens)} by GradCAM(layer=...)"
        )
    raise InputError(
        f"none of the network's intermediates ({', '.join(program.entries)}) is a feature map [h,"
        " w, c] that its logits depend on: a CAM needs one, named by GradCAM(layer=...)"
    )


def values(program: TracedNetwork, image: Image, name: str) -> Any:
    """The intermediate `name` of one image, without the batch axis (one forward evaluation).

    Raises InputError as `find`.
    """
    entry = find(program, name)
    leaves, tree = jax.tree.flatten(entry)
    _, known = run(program, image)
    batched = [leaf.val if is_literal(leaf) else known[leaf] for leaf in leaves]
    return jax.tree.unflatten(tree, [value[0] for value in batched])


def value_and_gradient(
    program: TracedNetwork,
    image: Image,
    name: str,
    score: Callable[[Any], Float[Array, ""]],
) -> tuple[Any, Any]:
    """The intermediate `name` of one image and d score / d out[name], without the batch axis.

    One forward and one backward pass. `score` reads one image's outputs. An entry that is the
    network's own array transposed, reshaped or cast is followed back to it. Raises InputError for
    an unknown name, and for an intermediate that the logits do not depend on.
    """
    entry = find(program, name)
    sources = _source_on_the_way(program, name)
    leaves, tree = jax.tree.flatten(entry)
    roots = [root for root, _ in sources]
    taps = [jnp.zeros(root.aval.shape, root.aval.dtype) for root in roots]

    def tapped(taps: list[Array]) -> tuple[Array, list[Array]]:
        changes = {root: partial(jnp.add, tap) for root, tap in zip(roots, taps)}
        outputs, known = run(program, image, changes)
        value = score(jax.tree.map(lambda leaf: leaf[0], outputs))
        return value, [known[leaf] for leaf in leaves]

    require_gradient(lambda taps: tapped(taps)[0], taps, f"out[{name!r}]")
    tap_gradients, batched = jax.grad(tapped, has_aux=True)(taps)
    gradients = []
    for gradient, (_, views) in zip(tap_gradients, sources):
        gradients.append(_view(gradient, views)[0])
    values = [value[0] for value in batched]
    return jax.tree.unflatten(tree, values), jax.tree.unflatten(tree, gradients)


def value_and_rest(
    program: TracedNetwork, image: Image, name: str
) -> tuple[Array, Callable[[Array], Any]]:
    """The intermediate `name` of one image, and the network's outputs as a function of it.

    One forward pass, and a function that computes only what lies behind the intermediate: from its
    value, without the batch axis, to the outputs, with it. Raises InputError as
    `value_and_gradient`, and for a list of intermediates.
    """
    sources = _source_on_the_way(program, name)
    if len(sources) != 1:
        raise InputError(
            f"out[{name!r}] is a list: name an intermediate that is a single array"
        )
    ((root, views),) = sources
    _, known = run(program, image)
    equations = equations_behind(program.jaxpr, root)
    # a view holds the same numbers in another order, so its transpose is its inverse
    to_root = jax.linear_transpose(
        lambda value: _view(value, views)[0],
        jax.ShapeDtypeStruct(root.aval.shape, root.aval.dtype),
    )

    def rest(value: Array) -> Any:
        (replaced,) = to_root(value)
        values = known | {root: replaced}
        outputs = evaluate_equations(equations, values, program.jaxpr.outvars)
        return jax.tree.unflatten(program.outputs, outputs)

    return _view(known[root], views)[0], rest


def run(
    program: TracedNetwork,
    image: Image,
    changes: Mapping[Any, Callable[[Array], Array]] | None = None,
) -> tuple[Any, dict[Any, Any]]:
    """The network's outputs, with the batch axis, and the value of every variable.

    `changes` maps a variable to the function of its value that the network goes on with.
    """
    changes = changes or {}
    inputs = [*program.jaxpr.constvars, *program.jaxpr.invars]
    known: dict[Any, Any] = dict(zip(inputs, [*program.constants, image]))

    def change(variable: Any, value: Array) -> Array:
        known[variable] = changes[variable](value) if variable in changes else value
        return known[variable]

    outputs = evaluate(program.jaxpr, program.constants, [image], intercept=change)
    return jax.tree.unflatten(program.outputs, outputs), known


def find(program: TracedNetwork, name: str) -> Any:
    """The variable, or list of variables, of a name. Raises InputError for an unknown name."""
    if name not in program.entries:
        raise unknown("intermediate", name, program.entries)
    return program.entries[name]


def with_attention(predict: Predict, shape: tuple[int, ...]) -> Predict:
    """The network with `out["attention"]`, a list of [n, heads, t, t], one per block.

    That is the network itself, or the network with `attention=True`. Raises InputError for a
    network without attention.
    """
    example = _abstract(shape)
    if _has_attention(jax.eval_shape(lambda image: predict(image[None]), example)):
        return predict
    if not isinstance(predict, Traced):
        attending: Predict = partial(predict, **{"attention": True})
        try:
            if _has_attention(
                jax.eval_shape(lambda image: attending(image[None]), example)
            ):
                return attending
        except TypeError:  # it takes no such argument
            pass
    raise InputError(
        "the network returns no attention, so it cannot be rolled out: explain a Transformer that"
        " returns out['attention'], a list of [n, heads, tokens, tokens] (ours do), and a CNN by"
        " grad_cam"
    )


def _one_image(predict: Predict, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The jaxpr of the network for one image [h, w, c] and the shapes of its outputs."""
    call: Callable[[Array], Any] = predict
    network = predict.network if isinstance(predict, WithoutGradient) else predict
    if isinstance(network, Traced):
        # not by its own call, whose `vmap` returns slices of what the network goes on with
        def call(images: Array) -> Any:
            if isinstance(predict, WithoutGradient):
                images = predict.gate(images)
            leaves = evaluate(network.program.jaxpr, network.constants, [images])
            return jax.tree.unflatten(network.program.outputs, leaves)

    return jax.make_jaxpr(lambda image: call(image[None]), return_shape=True)(
        _abstract(shape)
    )


def _abstract(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)


def _named(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{name}/")
        elif value is not None:
            yield f"{prefix}{name}", value


def _source(program: TracedNetwork, entry: Any) -> list[tuple[Any, list[Any]]] | None:
    """For every leaf of an entry, the variable that it is a view of, and the equations between.

    The variable is one that the logits depend on; None where a leaf is no view of such a variable.
    """
    sources = []
    for leaf in jax.tree.leaves(entry):
        views: list[Any] = []
        while not is_literal(leaf) and leaf not in program.upstream:
            equation = program.made_by.get(leaf)
            if (
                equation is None
                or equation.primitive.name not in VIEWS
                or not _same_size(equation)
            ):
                return None
            views.insert(0, equation)
            leaf = equation.invars[0]
        if is_literal(leaf) or leaf not in program.made_by:
            return None
        sources.append((leaf, views))
    return sources


def _source_on_the_way(program: TracedNetwork, name: str) -> list[tuple[Any, list[Any]]]:
    """`_source` of a name. Raises InputError where the logits do not depend on it."""
    sources = _source(program, find(program, name))
    if sources is None:
        raise InputError(
            f"the logits do not depend on out[{name!r}]: it is a copy or lies behind them, or they"
            " use it inside a loop, a checkpoint (remat) or a custom gradient; return in out the"
            " very array that the network goes on with, and build the network without remat"
        )
    return sources


def _same_size(equation: Any) -> bool:
    return equation.invars[0].aval.size == equation.outvars[0].aval.size


def _view(array: Array, views: list[Any]) -> Array:
    for equation in views:
        array = equation.primitive.bind(array, *equation.invars[1:], **equation.params)
    return array


def _has_attention(outputs: Any) -> bool:
    if not isinstance(outputs, tuple | list) or len(outputs) < 2:
        return False
    return isinstance(outputs[1], Mapping) and "attention" in outputs[1]
