"""The biases of any network in inference, and the gradients at them, without hooks.

A run of additions and products with numbers that do not depend on the image is one affine layer,
y = s x + b: a batch norm, or the bias of a convolution. What it makes of zeros is its bias b, and

    f^b = b * d g / d y

is that bias's share of g (Srinivas, Fleuret, arXiv 1905.00780: the implicit biases too).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import InputError
from mdm_jax.execution.dependence import equations_on_the_way, is_literal, variables
from mdm_jax.execution.intermediates import VIEWS, TracedNetwork, run
from mdm_jax.execution.interpreter import evaluate_equations
from mdm_jax.types import Image

SUMS = frozenset({"add", "sub"})
AFFINE = SUMS | {"mul", "div", "neg", "convert_element_type"}


class AffineLayer(NamedTuple):
    """A run of affine equations, from the variable `start` to the variable `end`."""

    start: Any
    equations: tuple[Any, ...]
    end: Any


def affine_layers(program: TracedNetwork) -> list[AffineLayer]:
    """The affine layers on the way from the image to the logits, each as long as it can be.

    A layer ends where its value is used more than once. Raises InputError for equations that hide
    others.
    """
    equations = equations_on_the_way(program.jaxpr, program.upstream)
    depends = set(program.jaxpr.invars)
    for equation in equations:
        depends.update(equation.outvars)
    uses: Counter[Any] = Counter()
    for equation in equations:
        uses.update(variables(equation.invars))
    layers: dict[Any, AffineLayer] = {}
    for equation in equations:
        inputs = [atom for atom in variables(equation.invars) if atom in depends]
        is_affine = equation.primitive.name in AFFINE and len(inputs) == 1
        divides = equation.primitive.name == "div" and equation.invars[0] not in inputs
        if not is_affine or divides:
            continue
        (start,), (end,), run_so_far = inputs, equation.outvars, ()
        if start in layers and uses[start] == 1:
            before = layers.pop(start)
            start, run_so_far = before.start, before.equations
        layers[end] = AffineLayer(start, (*run_so_far, equation), end)
    return list(layers.values())


def shares(
    program: TracedNetwork, image: Image, score: Callable[[Any], Float[Array, ""]]
) -> tuple[Float[Array, "h w c"], list[Float[Array, "gh gw k"]]]:
    """Input times gradient, and b * d score / d b of every bias of feature maps.

    One forward and one backward pass. The input is the image as it is after its own affine layer,
    normalized; biases of vectors, such as the classifier's, are left out. Raises InputError for a
    network without biases of feature maps [n, h, w, c], for one with biases of tokens (a
    Transformer), and for equations that hide others.
    """
    (pixels,) = program.jaxpr.invars
    of_image, of_maps = [], []
    for layer in affine_layers(program):
        rank = len(layer.end.aval.shape)
        if _undo_views(program, layer.start) is pixels:
            of_image.append(layer)
        elif not _adds_weights(layer) or rank == 2:
            continue
        elif rank != 4:
            raise InputError(
                f"the network adds a bias to an array of shape {layer.end.aval.shape}, no map [n,"
                " h, w, c]: explain a network of convolutions by fullgrad, and a Transformer by"
                " attn_lrp or chefer"
            )
        else:
            of_maps.append(layer)
    if not of_maps:
        raise InputError(
            "the network adds no bias to a map [n, h, w, c], so fullgrad has nothing to show beyond"
            " input_x_gradient: explain a network of convolutions"
        )
    layers = [*of_image, *of_maps]
    taps = [jnp.zeros(layer.end.aval.shape, layer.end.aval.dtype) for layer in layers]

    def tapped(image: Image, taps: list[Array]) -> tuple[Array, list[Array]]:
        changes = {layer.end: partial(jnp.add, tap) for layer, tap in zip(layers, taps)}
        outputs, known = run(program, image, changes)
        value = score(jax.tree.map(lambda leaf: leaf[0], outputs))
        return value, [_bias(layer, known) for layer in layers]

    differentiate = jax.grad(tapped, argnums=(0, 1), has_aux=True)
    (gradient, tap_gradients), biases = differentiate(image, taps)
    found = [(b * g)[0].astype(jnp.float32) for b, g in zip(biases, tap_gradients)]
    of_input = image * gradient
    for share in found[: len(of_image)]:
        # (s x + b) dg/dz = x dg/dx + b dg/dz
        of_input = of_input + share.reshape(image.shape)
    return of_input, found[len(of_image) :]


def _bias(layer: AffineLayer, known: dict[Any, Any]) -> Array:
    """What the layer makes of zeros."""
    values = dict(known)
    values[layer.start] = jnp.zeros(layer.start.aval.shape, layer.start.aval.dtype)
    return evaluate_equations(layer.equations, values, [layer.end])[0]


def _adds_weights(layer: AffineLayer) -> bool:
    """Whether it adds an array; a number, as in x * relu6(x + 3), is part of a nonlinearity."""
    sums = [each for each in layer.equations if each.primitive.name in SUMS]
    return any(not any(is_literal(atom) for atom in each.invars) for each in sums)


def _undo_views(program: TracedNetwork, variable: Any) -> Any:
    """The variable whose numbers it holds, perhaps in another form."""
    while variable in program.made_by:
        equation = program.made_by[variable]
        if equation.primitive.name not in VIEWS or is_literal(equation.invars[0]):
            break
        variable = equation.invars[0]
    return variable
