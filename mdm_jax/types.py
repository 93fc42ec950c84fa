"""The contracts between the parts, and the data that a method returns.

Everywhere: images are float32, NHWC (HWC for one image), in [0, 1]. A masked image is
`mask * image + (1 - mask) * fill`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

if TYPE_CHECKING:
    # fields hold JAX arrays inside a program and NumPy arrays outside; a type checker that tells
    # them apart would refuse one or the other
    AnyArray = Any
else:
    AnyArray = jax.Array | np.ndarray

Image = Float[Array, "h w c"]
Mask = Float[Array, "h w"]

# A number, or an array of one, perhaps traced.
Scalar = int | float | Float[Any, ""]

# The network: images [n, h, w, c] in [0, 1] to logits [n, classes], or `(logits, out)`, or any
# pytree whose leaves are led by n.
Predict = Callable[[Float[Array, "n h w c"]], Any]


# Metadata of a config's field that is structure: no leaf of the pytree, so a change of it compiles
# anew.
STATIC = {"static": True}


def is_concrete_number(leaf: Any) -> bool:
    """A number or array whose value is known now, not traced."""
    return isinstance(
        leaf, int | float | np.generic | np.ndarray | jax.Array
    ) and not isinstance(leaf, jax.core.Tracer)


@runtime_checkable
class Node(Protocol):
    """A detection node: what must stay the same when the image is masked."""

    def __call__(self, outputs: Any, target: Int[Array, ""]) -> Float[Array, "..."]:
        """The activation, a scalar or a vector, of one image's outputs and its target class.

        The outputs have no batch axis.
        """


@runtime_checkable
class Fill(Protocol):
    """What replaces the masked-out pixels."""

    def __call__(self, image: Image, *, key: Key[Array, ""]) -> Image:
        """An image of the same shape."""


class Status(IntEnum):
    """How the optimization of one image ended."""

    CONVERGED = 0
    """the objective had stopped improving"""
    OUT_OF_STEPS = 1
    """every step was used while the objective still improved"""
    NOT_FINITE = 2
    """a NaN or infinity appeared; the masks are the last finite ones"""
    CONSTANT = 3
    """the node has the same activation for the image, its fill and the masked image: nothing to
    explain"""
    LOST = 4
    """the masks keep less than half of the activation (relative to the way from the fill): what
    they show is no explanation"""
    EMPTY = 5
    """every pixel of the map has the same value: what the method looked at, such as gradients, was
    zero, or told no pixel from another"""

    @property
    def words(self) -> str:
        """As tables and pictures write it."""
        return self.name.lower().replace("_", " ")


# Why a map is not what it usually is, by the status that says so.
REASONS: dict[Status, str] = {
    Status.NOT_FINITE: "the network gave NaN or infinite values",
    Status.CONSTANT: (
        "the network gives the same activation for the image, its fill and the masked image"
    ),
    Status.LOST: (
        "the masks keep less than half of the activation: what they show is no explanation"
    ),
    Status.EMPTY: (
        "the map is empty, as no pixel differs from another: a saturated network has gradients of"
        " zero, so try the node logit, or a method without gradients such as occlusion"
    ),
}


class Info(NamedTuple):
    """Diagnostics of one explanation; every field gains a leading axis in a batch."""

    target: Int[AnyArray, "*n"]
    """class explained"""
    activation: Float[AnyArray, "..."]
    """node on the original image"""
    activation_masked: Float[AnyArray, "..."]
    """node on the image seen through the stacked mask"""
    activation_fill: Float[AnyArray, "..."]
    """node on the fill alone: everything is masked out"""
    kept_area: Float[AnyArray, "*n"]
    """mean of the stacked mask: the fraction of the image that is kept, in [0, 1]"""
    objective: Float[AnyArray, "*n"]
    """weighted sum of the terms as the last step evaluated them, before it moved the masks"""
    terms: dict[str, Any]
    """every term at that step, unweighted; the mean over sizes in the schedule `independent`. In
    the schedule `sequence` also "kept", the share of the activation kept at that step, and
    "kept_HxW", that of the answer of each size"""
    steps: Int[AnyArray, "*n"]
    """optimizer steps taken"""
    evaluations: Int[AnyArray, "*n"]
    """network evaluations with a gradient (forward and backward pairs)"""
    forwards: Int[AnyArray, "*n"]
    """network evaluations without a gradient"""
    status: Int[AnyArray, "*n"]
    """a `Status`"""


class Trace(NamedTuple):
    """The trajectory of an optimization: entry t is the state that step t evaluated."""

    mask_vectors: tuple[Float[AnyArray, "*n steps _h _w"], ...]
    objective: Float[AnyArray, "*n steps"]
    terms: dict[str, Any]


class Explanation(NamedTuple):
    """What every method returns: for one image, or with a leading axis for a batch."""

    saliency: Float[AnyArray, "*n h w"]
    """saliency map in [0, 1]"""
    mask_vectors: tuple[Float[AnyArray, "*n _h _w"], ...]
    """learned mask vectors in [0, 1], one per size; empty for methods without masks"""
    info: Info
    trace: Trace | None = None
    """the trajectory, with `trace=True`"""
    attribution: Float[AnyArray, "*n h w"] | None = None
    """signed attribution of each pixel, channels added up, in the method's own units; the saliency
    is this map stretched to [0, 1]. None for methods without attributions"""
    evidence: Float[AnyArray, "*n h w"] | None = None
    """what the gradients along the way of the masks say of each pixel, above 0 where showing it
    helps, see `mdm_jax.evidence`; None for methods without it"""
    ranking: Float[AnyArray, "*n h w"] | None = None
    """map in [0, 1] whose order of pixels insertion, deletion and their like read; None where the
    saliency is meant for that too"""


@runtime_checkable
class ExplainFunction(Protocol):
    """What every method is called like: one image in, one `Explanation` out, pure.

    `config` is the method's own frozen dataclass, a pytree with a `check()` that raises InputError;
    None is its default."""

    def __call__(
        self,
        predict: Predict,
        image: Image,
        target: Int[Array, ""] | int | None = None,
        *,
        node: str | Node = "probability",
        key: Key[Array, ""],
        config: Any = None,
        trace: bool = False,
    ) -> Explanation: ...


class Method(NamedTuple):
    """A method of explaining: its function and what goes with it.

    A function of yours becomes a method with settings by such a record beside it, which is then
    named in place of the function: `inverse = Method("inverse", explain, Inverse, "logit")`."""

    name: str
    explain: ExplainFunction
    config_type: type | None = None
    """the frozen dataclass of its settings; None for a method that takes none"""
    default_node: str | Node = "probability"
    """what its authors explain: a logit for most gradients, a probability for most masks"""
    is_pixelwise: bool = False
    """whether a map has a value of its own at each pixel, as gradients give it: a few are huge, so
    pictures clip it, see `views.map_pictures.clip_outliers`"""
