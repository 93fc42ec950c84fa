"""Slots: MDM problems kept on the devices, each replaced as soon as it is over (as language-model
servers batch requests).

Images converge at different speeds. A batch waits for its slowest; here a problem that is over
leaves its slot and the next image enters, while the others go on with their own optimizer state and
step counter. Three compiled programs serve all: `enter` and `leave` for a few slots, `advance` for
all of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mdm_jax import mdm, solver
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.execution.keys import step_key
from mdm_jax.problem import Problem, begin
from mdm_jax.runs.batching import LANDED, Done, Row, arrived, one_of, stacked
from mdm_jax.runs.compiled import (
    EVERYWHERE,
    SPLIT,
    Answer,
    Chosen,
    Parts,
    Program,
    Question,
    Recipe,
    answer,
    choose,
)

DOOR = 8
"""an eighth of the slots changes at a time: fewer, and more calls are made; more, and what is over
waits longer"""


class Slot(NamedTuple):
    """A problem on its way; with a leading axis, all slots."""

    problem: Problem
    state: solver.State
    chosen: Chosen
    start_cost: mdm.Cost
    """by the start"""


class Slots:
    """`size` slots on each device; a place is a slot's number over all devices."""

    def __init__(self, program: Program, size: int):
        self.program, self.size, self.door = program, size, max(1, size // DOOR)
        self.held: list[Row | None] = [None] * (size * program.devices)
        self.over = np.ones(len(self.held), bool)
        self.slots: Slot | None = None
        self.landed: list[Done] = []
        self.seconds = 0.0

    @property
    def busy(self) -> float:
        return self.seconds

    def fill(self, rows: Iterator[Row]) -> None:
        entering: list[int] = []
        for place in (place for place, row in enumerate(self.held) if row is None):
            if (row := self._next(rows)) is None:
                break
            self.held[place], self.over[place] = row, False
            entering.append(place)
        for places in self._through_the_door(entering):
            questions = self.program.placed(self._questions(places))
            slots = _empty(self.program, questions, self.size) if self.slots is None else self.slots
            self.slots = enter(
                self.program.recipe,
                self.program.arrays,
                self.program.key,
                slots,
                self._at(places),
                questions,
            )

    def take(self, wanted: range) -> list[Done]:
        while True:
            done = [each for each in self.landed if each[0].number in wanted]
            self.landed = [each for each in self.landed if each[0].number not in wanted]
            over = [
                place
                for place, row in enumerate(self.held)
                if row and self.over[place] and row.number in wanted
            ]
            if done or over:
                return done + self._leave(over)
            self._advance()

    def holds(self, wanted: range) -> bool:
        aboard = itertools.chain(filter(None, self.held), (row for row, _ in self.landed))
        return any(row.number in wanted for row in aboard)

    def _next(self, rows: Iterator[Row]) -> Row | None:
        """The next row that asks something; those before it are done."""
        while len(self.landed) < LANDED and (row := next(rows, None)):
            if row.question is not None:
                return row
            self.landed.append((row, None))
        return None

    def _advance(self) -> None:
        """Until a few more problems are over on each device."""
        start = time.perf_counter()
        idle = np.asarray([row is None for row in self.held]) | self.over
        quorum = idle.reshape(-1, self.size).sum(axis=1) + self.door
        program, slots = self.program, self.slots
        self.slots, over = advance(
            program.recipe, program.arrays, slots, program.placed(quorum.astype(np.int32))
        )
        self.over = np.array(arrived(over))
        self.seconds += time.perf_counter() - start

    def _leave(self, places: Sequence[int]) -> list[Done]:
        start, done = time.perf_counter(), list[Done]()
        for part in self._through_the_door(places):
            answers = arrived(
                leave(self.program.recipe, self.program.arrays, self.slots, self._at(part))
            )
            for i, place in enumerate(part):
                if (row := self.held[place]) is not None and place >= 0:
                    done.append((row, one_of(answers, i)))
                    self.held[place] = None
        self.seconds += time.perf_counter() - start
        return done

    def _questions(self, places: Sequence[int]) -> Question:
        """What the rows at some places ask; where there is none, another's question, which goes
        nowhere."""
        some = max(places)
        rows = [
            row for place in places if (row := self.held[place if place >= 0 else some]) is not None
        ]
        return stacked(rows, len(places))

    def _through_the_door(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Places in parts of `door` for each device, device by device; -1 where there is none."""
        queues = [
            [place for place in places if place // self.size == device]
            for device in range(self.program.devices)
        ]
        while any(queues):
            part = [queue[: self.door] + [-1] * (self.door - len(queue)) for queue in queues]
            queues = [queue[self.door :] for queue in queues]
            yield [place for each in part for place in each]

    def _at(self, places: Sequence[int]) -> Int[Array, " n"]:
        """Places as each device numbers its own; beyond the last one where there is none."""
        own = [place % self.size if place >= 0 else self.size for place in places]
        return self.program.placed(np.asarray(own, np.int32))


def _config(parts: Parts) -> MDMConfig:
    return PRESETS["fast"] if parts.config is None else parts.config


def _begun(recipe: Recipe, arrays: list[Array], key: Key[Array, ""], questions: Question) -> Slot:
    """Problems at their start."""
    parts = recipe.parts(arrays)
    config = _config(parts)

    def one(question: Question) -> Slot:
        chosen = choose(parts.network, question, recipe.ranks)
        own = jax.random.fold_in(key, question.number)
        asked: dict[str, Any] = {"node": parts.node, "key": own}
        started, start_cost = mdm.warm_start(
            parts.network, question.image, chosen.target, config=config, **asked
        )
        problem = begin(parts.network, question.image, chosen.target, fill=config.fill, **asked)
        method = mdm.make_solver(parts.network, problem, node=parts.node, config=started)
        return Slot(
            problem,
            method.init(mdm.first_parameters(problem, started)),
            chosen,
            jax.tree.map(jnp.int32, start_cost),
        )

    return jax.vmap(one)(questions)


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def enter(
    recipe: Recipe,
    arrays: list[Array],
    key: Key[Array, ""],
    slots: Slot,
    places: Int[Array, " n"],
    questions: Question,
) -> Slot:
    """New problems in their places; a place beyond the last is none."""

    def of_device(
        arrays: list[Array],
        key: Key[Array, ""],
        slots: Slot,
        places: Int[Array, " n"],
        questions: Question,
    ) -> Slot:
        fresh = _begun(recipe, arrays, key, questions)
        return jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), slots, fresh)

    specs = (EVERYWHERE, EVERYWHERE, SPLIT, SPLIT, SPLIT)
    return recipe.over_devices(of_device, *specs)(arrays, key, slots, places, questions)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def advance(
    recipe: Recipe, arrays: list[Array], slots: Slot, quorum: Int[Array, " devices"]
) -> tuple[Slot, Bool[Array, " slots"]]:
    """Steps until `quorum` problems of a device are over, or all of them; and which are."""

    def of_device(
        arrays: list[Array], slots: Slot, quorum: Int[Array, " 1"]
    ) -> tuple[Slot, Bool[Array, " slots"]]:
        parts = recipe.parts(arrays)
        config = _config(parts)

        def should_continue(state: solver.State) -> Bool[Array, ""]:
            return solver.should_continue(
                state, config.steps, until_converged=config.until_converged
            )

        def step(problem: Problem, state: solver.State) -> solver.State:
            method = mdm.make_solver(parts.network, problem, node=parts.node, config=config)
            after, _ = method.step(state, step_key(problem.key, state.steps))
            return solver.select(should_continue(state), after, state)

        def needed(states: solver.State) -> Bool[Array, ""]:
            active = jax.vmap(should_continue)(states)
            return active.any() & ((~active).sum() < quorum[0])

        states = jax.lax.while_loop(
            needed, lambda states: jax.vmap(step)(slots.problem, states), slots.state
        )
        return slots._replace(state=states), ~jax.vmap(should_continue)(states)

    return recipe.over_devices(of_device, EVERYWHERE, SPLIT, SPLIT)(arrays, slots, quorum)


@partial(jax.jit, static_argnums=0)
def leave(recipe: Recipe, arrays: list[Array], slots: Slot, places: Int[Array, " n"]) -> Answer:
    """The answers of problems that are over, in the order of their places."""

    def of_device(arrays: list[Array], slots: Slot, places: Int[Array, " n"]) -> Answer:
        parts = recipe.parts(arrays)
        config = _config(parts)

        def one(slot: Slot) -> Answer:
            state = solver.restore_best(slot.state) if config.until_converged else slot.state
            explanation = mdm.finish(
                parts.network,
                slot.problem,
                state,
                node=parts.node,
                config=config,
                start_cost=slot.start_cost,
            )
            return answer(recipe, explanation, slot.chosen)

        return jax.vmap(one)(jax.tree.map(lambda leaf: leaf.at[places].get(mode="clip"), slots))

    return recipe.over_devices(of_device, EVERYWHERE, SPLIT, SPLIT)(arrays, slots, places)


def _empty(program: Program, questions: Question, size: int) -> Slot:
    """Slots without problems: all over, so that nothing moves them."""

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        shape = (size * program.devices, *leaf.shape[1:])
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), shape)
        return jnp.zeros(shape, leaf.dtype)

    slots = jax.tree.map(
        blank,
        jax.eval_shape(partial(_begun, program.recipe), program.arrays, program.key, questions),
    )
    never = jnp.full_like(slots.state.steps, jnp.iinfo(jnp.int32).max)
    return program.placed(slots._replace(state=slots.state._replace(steps=never)))
