"""What a run compiles: the explanations of a batch of requests, each device solving its own part.

`jax.shard_map` splits the batch over the devices of a group; no value crosses between them, so the
compiled program has no collectives. Accelerators are one group. On CPU every (simulated) device is
a group of its own: XLA compiles a program for one device otherwise than for several, which changes
the rounding, and there results shall be the same to the bit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from mdm_jax import nodes
from mdm_jax.config import MDMConfig
from mdm_jax.errors import InputError
from mdm_jax.execution.network import ImageShape, Rest, join, split
from mdm_jax.problem import EMPTY_RULE, LOST_RULE, with_empty_named
from mdm_jax.types import AnyArray, ExplainFunction, Explanation, Image, Info, Node, Predict

# The mesh axis over which a batch is split.
DEVICES = "devices"
SHARDED, REPLICATED = PartitionSpec(DEVICES), PartitionSpec()


class ExplainRequest(NamedTuple):
    """Which image is explained for which target; every field gains a leading axis in a batch."""

    image: AnyArray
    """float32 [h, w, c] in [0, 1]"""
    target: AnyArray
    """a class, or -1 for the network's first choice, -2 for its second ..."""
    number: AnyArray
    """the image's id as a number, which is folded into the key"""


class ExplainResult(NamedTuple):
    """What a run keeps of an explanation."""

    mask_vectors: tuple[AnyArray, ...]
    saliency: AnyArray | None
    """float16 [h, w], where it is asked for"""
    evidence: AnyArray | None
    """float16 [h, w], where it is asked for"""
    info: Info
    prediction: AnyArray
    """the network's first choice; -1 where its outputs are no logits"""
    probability: AnyArray
    """of the prediction; NaN where its outputs are no logits"""


class ProgramParts(NamedTuple):
    """What a program is made of, besides the images."""

    network: Predict
    node: str | Node
    config: Any


@dataclass(frozen=True)
class ProgramSpec:
    """The static part of a program."""

    rest: Rest
    """of `ProgramParts`, without its arrays"""
    solve: ExplainFunction
    ranks: int
    """how many of the network's choices are asked for: targets reach down to -ranks"""
    saliency: bool
    """whether maps are kept"""
    evidence: bool
    """whether the evidence is kept"""
    mesh: Mesh

    def parts(self, arrays: list[Any]) -> ProgramParts:
        return join(arrays, self.rest)

    def over_devices(
        self, function: Callable[..., Any], *specs: PartitionSpec
    ) -> Callable[..., Any]:
        """`function` on every device, with its part of what is `SHARDED` and all of what is
        `REPLICATED`."""
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=specs, out_specs=SHARDED, check_vma=False
        )


class DeviceProgram(NamedTuple):
    """A program with its arrays and key in place on every device of a group."""

    spec: ProgramSpec
    arrays: list[Array]
    key: Key[Array, ""]

    @property
    def devices(self) -> int:
        """How many devices share the program."""
        return self.spec.mesh.size

    def __call__(self, requests: ExplainRequest) -> ExplainResult:
        """The results of a batch that the number of devices divides.

        Returns before they are computed."""
        return explain_rows(self.spec, self.arrays, self.key, self.shard(requests))

    def shard(self, batch: Any) -> Any:
        """A batch with each device's part on it."""
        return jax.device_put(batch, NamedSharding(self.spec.mesh, SHARDED))


def device_groups() -> list[Mesh]:
    """The local devices of this process, in groups that share a program."""
    devices = jax.local_devices()
    is_cpu = devices[0].platform == "cpu"
    groups = [[device] for device in devices] if is_cpu else [devices]
    return [
        jax.make_mesh((len(group),), (DEVICES,), axis_types=(AxisType.Auto,), devices=group)
        for group in groups
    ]


def build_program(
    parts: ProgramParts,
    solve: ExplainFunction,
    key: Key[Array, ""],
    mesh: Mesh,
    *,
    ranks: int,
    saliency: bool,
    evidence: bool,
) -> DeviceProgram:
    """The program of a device group; nothing is compiled."""
    # Plain numbers become arrays, so that another learning rate compiles nothing anew.
    numeric = jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf,
        _without_unused(parts.config),
    )
    arrays, rest = split(parts._replace(config=numeric))
    arrays, key = jax.device_put((arrays, key), NamedSharding(mesh, REPLICATED))
    spec = ProgramSpec(rest, solve, ranks, saliency, evidence, mesh)
    return DeviceProgram(spec, arrays, key)


def _without_unused(config: Any) -> Any:
    """A method's config without the numbers that only the schedule sequence reads, where it has
    another one: its program stays the same when that schedule gets more of them."""
    if not isinstance(config, MDMConfig) or config.schedule == "sequence":
        return config
    return replace(config, kept_share=None, weight_rate=None, rate_power=None)


@partial(jax.jit, static_argnums=0)
def explain_rows(
    spec: ProgramSpec, arrays: list[Any], key: Key[Array, ""], requests: ExplainRequest
) -> ExplainResult:
    """The results of a batch of requests, by the method as it is."""

    def on_device(
        arrays: list[Any], key: Key[Array, ""], requests: ExplainRequest
    ) -> ExplainResult:
        return jax.vmap(partial(explain_row, spec, spec.parts(arrays), key))(requests)

    return spec.over_devices(on_device, REPLICATED, REPLICATED, SHARDED)(
        arrays, key, requests
    )


def explain_row(
    spec: ProgramSpec, parts: ProgramParts, key: Key[Array, ""], request: ExplainRequest
) -> ExplainResult:
    """The result of one request."""
    choice = choose_target(parts.network, request, spec.ranks)
    own = jax.random.fold_in(key, request.number)
    explanation = spec.solve(
        parts.network,
        request.image,
        choice.target,
        node=parts.node,
        key=own,
        config=parts.config,
    )
    return make_result(spec, explanation, choice)


def fingerprint(program: DeviceProgram, shape: ImageShape) -> str:
    """A checksum of the program for one image.

    It covers the network's code, the node, the terms and the optimizer, not the weights, and not
    the rules by which an answer is called lost or empty."""
    request = ExplainRequest(
        jax.ShapeDtypeStruct(shape, np.float32),
        jax.ShapeDtypeStruct((), np.int32),
        jax.ShapeDtypeStruct((), np.uint32),
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (program.arrays, program.key),
    )
    closed = jax.make_jaxpr(
        lambda arrays, key, request: explain_row(
            program.spec, program.spec.parts(arrays), key, request
        )
    )(*shapes, request)
    # A place in memory says nothing about the program.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(_without_rules(closed.jaxpr)))
    digest = hashlib.sha256(text.encode())
    for constant in closed.consts:
        digest.update(np.ascontiguousarray(constant).tobytes())
    return digest.hexdigest()[:16]


def _without_rules(jaxpr: Jaxpr) -> Jaxpr:
    """A program without the calls of `name_lost` and `name_empty`, as it was before there were
    those statuses.

    Each hands on its first argument in place of its result."""
    handed_on: dict[Any, Any] = {}

    def current(atom: Any) -> Any:
        return atom if isinstance(atom, Literal) else handed_on.get(atom, atom)

    equations = []
    for equation in jaxpr.eqns:
        inputs = [current(atom) for atom in equation.invars]
        if equation.params.get("name") in (LOST_RULE, EMPTY_RULE):
            handed_on[equation.outvars[0]] = inputs[0]
        else:
            equations.append(equation.replace(invars=inputs))
    return jaxpr.replace(eqns=equations, outvars=[current(atom) for atom in jaxpr.outvars])


class TargetChoice(NamedTuple):
    """The target, and what the network says of the image."""

    target: Int[AnyArray, "*n"]
    prediction: Int[AnyArray, "*n"]
    probability: Float[AnyArray, "*n"]


def choose_target(network: Predict, request: ExplainRequest, ranks: int) -> TargetChoice:
    """The class that a request asks about; costs one forward evaluation."""
    outputs = jax.tree.map(lambda leaf: leaf[0], network(request.image[None]))
    if not nodes.has_logits(outputs):
        return TargetChoice(jnp.int32(request.target), jnp.int32(-1), jnp.float32(jnp.nan))
    logits = nodes.logits_of(outputs).astype(jnp.float32)
    order = jax.lax.top_k(logits, ranks)[1].astype(jnp.int32)
    # -1 asks for the first choice, -2 for the second, and so on.
    target = jnp.where(
        request.target < 0,
        order[jnp.clip(-1 - request.target, 0, ranks - 1)],
        request.target,
    )
    return TargetChoice(target, order[0], jax.nn.softmax(logits)[order[0]])


def make_result(
    spec: ProgramSpec, explanation: Explanation, choice: TargetChoice
) -> ExplainResult:
    """What is kept of an explanation. Raises InputError for a method without evidence that is
    asked for it."""
    # The forward evaluation of `choose_target` is counted.
    info = with_empty_named(explanation).info
    info = info._replace(forwards=info.forwards + 1)
    saliency = explanation.saliency.astype(jnp.float16) if spec.saliency else None
    evidence = None
    if spec.evidence:
        if explanation.evidence is None:
            raise InputError(
                "the method gathers no evidence: leave evidence out, or choose mdm with the"
                " schedule sequence",
                setting="evidence",
            )
        most = float(jnp.finfo(jnp.float16).max)
        evidence = jnp.clip(explanation.evidence, -most, most).astype(jnp.float16)
    return ExplainResult(
        explanation.mask_vectors,
        saliency,
        evidence,
        info,
        choice.prediction,
        choice.probability,
    )


def result_shapes(
    program: DeviceProgram, image: Image | jax.ShapeDtypeStruct
) -> ExplainResult:
    """The shapes of one result, from the shape of one image; nothing is compiled."""
    n = program.devices
    request = ExplainRequest(
        jax.ShapeDtypeStruct((n, *image.shape), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.int32),
        jax.ShapeDtypeStruct((n,), jnp.uint32),
    )
    batch = jax.eval_shape(
        partial(explain_rows, program.spec), program.arrays, program.key, request
    )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch
    )
