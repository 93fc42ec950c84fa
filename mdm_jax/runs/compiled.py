"""What a run compiles: the answers to a batch of questions, each device solving its own share
without the others.

`jax.shard_map` splits the batch over the devices of a team; no value crosses between them, so the
compiled program has no collectives. Accelerators are one team. On CPU every (simulated) device is a
team of its own: XLA compiles a program for one device otherwise than for several, which changes the
rounding, and there results shall be the same to the bit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from mdm_jax import nodes
from mdm_jax.execution.network import ImageShape, Rest, join, split
from mdm_jax.types import AnyArray, ExplainFunction, Explanation, Image, Info, Node, Predict

DEVICES = "devices"
"""the axis over which a batch is split"""
SPLIT, EVERYWHERE = PartitionSpec(DEVICES), PartitionSpec()


class Question(NamedTuple):
    """Which image is explained for which target; every field gains a leading axis in a batch."""

    image: AnyArray
    """float32 [h, w, c] in [0, 1]"""
    target: AnyArray
    """a class, or -1 for the network's first choice, -2 for its second ..."""
    number: AnyArray
    """the image's id as a number, which is folded into the key"""


class Answer(NamedTuple):
    """What is kept of an explanation."""

    mask_vectors: tuple[AnyArray, ...]
    saliency: AnyArray | None
    """float16 [h, w], where it is asked for"""
    info: Info
    prediction: AnyArray
    """the network's first choice; -1 where its outputs are no logits"""
    probability: AnyArray
    """of the prediction; NaN where its outputs are no logits"""


class Parts(NamedTuple):
    """What a program is made of, besides the images."""

    network: Predict
    node: str | Node
    config: Any


@dataclass(frozen=True)
class Recipe:
    """The static part of a program."""

    rest: Rest
    """of `Parts`, without its arrays"""
    solve: ExplainFunction
    ranks: int
    """how many of the network's choices are asked for: targets reach down to -ranks"""
    saliency: bool
    """whether maps are kept"""
    mesh: Mesh

    def parts(self, arrays: list[Any]) -> Parts:
        return join(arrays, self.rest)

    def over_devices(
        self, function: Callable[..., Any], *specs: PartitionSpec
    ) -> Callable[..., Any]:
        """`function` on every device's share of what is `SPLIT`, with the whole of what is to be
        `EVERYWHERE`."""
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=specs, out_specs=SPLIT, check_vma=False
        )


class Program(NamedTuple):
    """A recipe with its arrays and key in place on every device."""

    recipe: Recipe
    arrays: list[Array]
    key: Key[Array, ""]

    @property
    def devices(self) -> int:
        return self.recipe.mesh.size

    def __call__(self, questions: Question) -> Answer:
        """Answers to a batch that the number of devices divides; returns before they are
        computed."""
        return answers(self.recipe, self.arrays, self.key, self.placed(questions))

    def placed(self, batch: Any) -> Any:
        """A batch, each device's share on it."""
        return jax.device_put(batch, NamedSharding(self.recipe.mesh, SPLIT))


def teams() -> list[Mesh]:
    """The local devices of this process, in teams that share a program."""
    devices = jax.local_devices()
    parted = [[device] for device in devices] if devices[0].platform == "cpu" else [devices]
    return [
        jax.make_mesh((len(team),), (DEVICES,), axis_types=(AxisType.Auto,), devices=team)
        for team in parted
    ]


def program(
    parts: Parts,
    solve: ExplainFunction,
    key: Key[Array, ""],
    mesh: Mesh,
    *,
    ranks: int,
    saliency: bool,
) -> Program:
    """The program of a team."""
    numeric = jax.tree.map(
        lambda leaf: np.float32(leaf) if isinstance(leaf, float | int) else leaf, parts.config
    )
    arrays, rest = split(parts._replace(config=numeric))
    arrays, key = jax.device_put((arrays, key), NamedSharding(mesh, EVERYWHERE))
    return Program(Recipe(rest, solve, ranks, saliency, mesh), arrays, key)


@partial(jax.jit, static_argnums=0)
def answers(recipe: Recipe, arrays: list[Any], key: Key[Array, ""], questions: Question) -> Answer:
    """Every question's answer, by the method as it is."""

    def of_device(arrays: list[Any], key: Key[Array, ""], questions: Question) -> Answer:
        return jax.vmap(partial(explained, recipe, recipe.parts(arrays), key))(questions)

    return recipe.over_devices(of_device, EVERYWHERE, EVERYWHERE, SPLIT)(arrays, key, questions)


def explained(recipe: Recipe, parts: Parts, key: Key[Array, ""], question: Question) -> Answer:
    """One question's answer."""
    chosen = choose(parts.network, question, recipe.ranks)
    own = jax.random.fold_in(key, question.number)
    explanation = recipe.solve(
        parts.network, question.image, chosen.target, node=parts.node, key=own, config=parts.config
    )
    return answer(recipe, explanation, chosen)


def fingerprint(program: Program, shape: ImageShape) -> str:
    """A checksum of the program for one image: the network's code, the node, the terms and the
    optimizer, not the weights."""
    question = Question(
        *(
            jax.ShapeDtypeStruct(*each)
            for each in ((shape, np.float32), ((), np.int32), ((), np.uint32))
        )
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (program.arrays, program.key)
    )
    closed = jax.make_jaxpr(
        lambda arrays, key, question: explained(
            program.recipe, program.recipe.parts(arrays), key, question
        )
    )(*shapes, question)
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for constant in closed.consts:
        digest.update(np.ascontiguousarray(constant).tobytes())
    return digest.hexdigest()[:16]


class Chosen(NamedTuple):
    """The target, and what the network says of the image."""

    target: Int[AnyArray, "*n"]
    prediction: Int[AnyArray, "*n"]
    probability: Float[AnyArray, "*n"]


def choose(network: Predict, question: Question, ranks: int) -> Chosen:
    """The class that a question asks about (one forward evaluation)."""
    outputs = jax.tree.map(lambda leaf: leaf[0], network(question.image[None]))
    if not nodes.has_logits(outputs):
        return Chosen(jnp.int32(question.target), jnp.int32(-1), jnp.float32(jnp.nan))
    logits = nodes.logits_of(outputs).astype(jnp.float32)
    order = jax.lax.top_k(logits, ranks)[1].astype(jnp.int32)
    target = jnp.where(
        question.target < 0, order[jnp.clip(-1 - question.target, 0, ranks - 1)], question.target
    )
    return Chosen(target, order[0], jax.nn.softmax(logits)[order[0]])


def answer(recipe: Recipe, explanation: Explanation, chosen: Chosen) -> Answer:
    """What is kept of an explanation; the forward evaluation of `choose` is counted."""
    info = explanation.info._replace(forwards=explanation.info.forwards + 1)
    saliency = explanation.saliency.astype(jnp.float16) if recipe.saliency else None
    return Answer(explanation.mask_vectors, saliency, info, chosen.prediction, chosen.probability)


def shapes(program: Program, image: Image | jax.ShapeDtypeStruct) -> Answer:
    """The shapes of one answer, from one image's; nothing is compiled."""
    n = program.devices
    question = Question(
        jax.ShapeDtypeStruct((n, *image.shape), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.int32),
        jax.ShapeDtypeStruct((n,), jnp.uint32),
    )
    batch = jax.eval_shape(partial(answers, program.recipe), program.arrays, program.key, question)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
