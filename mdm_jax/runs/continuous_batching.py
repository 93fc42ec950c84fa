"""Continuous batching: MDM problems in slots on the devices, each replaced as soon as it is over.

Servers of language models batch their requests so. Images converge at different speeds, and a batch
waits for its slowest. Here a problem that is over leaves its slot and the next image enters, while
the others go on with their own optimizer state and step counter. Three compiled programs serve all:
`enter` and `leave` for a few slots, `advance` for all of them."""

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
from mdm_jax.runs.batching import (
    MAX_FINISHED,
    FinishedRow,
    QueuedRow,
    fetch,
    stack_requests,
    take_finished,
    take_result,
)
from mdm_jax.runs.compiled import (
    REPLICATED,
    SHARDED,
    DeviceProgram,
    ExplainRequest,
    ExplainResult,
    ProgramParts,
    ProgramSpec,
    TargetChoice,
    choose_target,
    make_result,
)

# An eighth of the slots is refilled at a time: with fewer, more calls are made; with more, problems
# that are over wait longer.
REFILL_DIVISOR = 8
NO_SLOT = -1


class Slot(NamedTuple):
    """A problem on its way; with a leading axis, all slots."""

    problem: Problem
    state: solver.State
    choice: TargetChoice
    start_cost: mdm.Cost
    """of the start"""


class SlotPool:
    """`size` slots on each device, numbered over all devices."""

    def __init__(self, program: DeviceProgram, size: int):
        self.program, self.size = program, size
        self.refill_size = max(1, size // REFILL_DIVISOR)
        self.rows: list[QueuedRow | None] = [None] * (size * program.devices)
        self.is_over = np.ones(len(self.rows), bool)
        self.slots: Slot | None = None
        self.finished: list[FinishedRow] = []
        self.seconds = 0.0

    @property
    def busy(self) -> float:
        """Seconds in which the devices were at work."""
        return self.seconds

    def fill(self, rows: Iterator[QueuedRow]) -> None:
        """Let rows enter the slots that are free."""
        entering: list[int] = []
        free = [slot for slot, row in enumerate(self.rows) if row is None]
        for slot in free:
            row = self._next(rows)
            if row is None:
                break
            self.rows[slot], self.is_over[slot] = row, False
            entering.append(slot)
        for numbers in self._split_refills(entering):
            requests = self.program.shard(self._requests(numbers))
            if self.slots is None:
                self.slots = _empty_slots(self.program, requests, self.size)
            self.slots = enter(
                self.program.spec,
                self.program.arrays,
                self.program.key,
                self.slots,
                self._on_devices(numbers),
                requests,
            )

    def take(self, wanted: range) -> list[FinishedRow]:
        """Finished rows of `wanted`, once there are any."""
        while True:
            finished = take_finished(self.finished, wanted)
            over = [
                slot
                for slot, row in enumerate(self.rows)
                if row and self.is_over[slot] and row.number in wanted
            ]
            if finished or over:
                return finished + self._leave(over)
            self._advance()

    def holds(self, wanted: range) -> bool:
        """Whether a row of `wanted` is in a slot or finished."""
        rows = itertools.chain(filter(None, self.rows), (row for row, _ in self.finished))
        return any(row.number in wanted for row in rows)

    def _next(self, rows: Iterator[QueuedRow]) -> QueuedRow | None:
        """The next row with a request; those before it are finished."""
        while len(self.finished) < MAX_FINISHED and (row := next(rows, None)):
            if row.request is not None:
                return row
            self.finished.append((row, None))
        return None

    def _advance(self) -> None:
        """Take steps until a refill's number of problems more are over on each device."""
        start = time.perf_counter()
        idle = np.asarray([row is None for row in self.rows]) | self.is_over
        quorum = idle.reshape(-1, self.size).sum(axis=1) + self.refill_size
        program = self.program
        self.slots, is_over = advance(
            program.spec, program.arrays, self.slots, program.shard(quorum.astype(np.int32))
        )
        self.is_over = np.array(fetch(is_over))
        self.seconds += time.perf_counter() - start

    def _leave(self, slots: Sequence[int]) -> list[FinishedRow]:
        """The results of problems that are over; their slots are free."""
        start = time.perf_counter()
        finished: list[FinishedRow] = []
        program = self.program
        for part in self._split_refills(slots):
            results = fetch(
                leave(program.spec, program.arrays, self.slots, self._on_devices(part))
            )
            for i, slot in enumerate(part):
                if slot != NO_SLOT and (row := self.rows[slot]) is not None:
                    finished.append((row, take_result(results, i)))
                    self.rows[slot] = None
        self.seconds += time.perf_counter() - start
        return finished

    def _requests(self, slots: Sequence[int]) -> ExplainRequest:
        """The requests of the rows in some slots; for no slot that of another, which goes
        nowhere."""
        other = max(slots)
        rows = [self.rows[other if slot == NO_SLOT else slot] for slot in slots]
        return stack_requests([row for row in rows if row is not None], len(slots))

    def _split_refills(self, slots: Sequence[int]) -> Iterator[list[int]]:
        """Slots in parts of `refill_size` for each device, device by device, filled up with
        `NO_SLOT`: the compiled programs take one number of slots."""
        size = self.refill_size
        queues: list[list[int]] = [[] for _ in range(self.program.devices)]
        for slot in slots:
            queues[slot // self.size].append(slot)
        while any(queues):
            part: list[int] = []
            for queue in queues:
                part += queue[:size] + [NO_SLOT] * (size - len(queue))
            yield part
            queues = [queue[size:] for queue in queues]

    def _on_devices(self, slots: Sequence[int]) -> Int[Array, " n"]:
        """Slots as each device numbers its own; for `NO_SLOT` the number after the last."""
        own = [self.size if slot == NO_SLOT else slot % self.size for slot in slots]
        return self.program.shard(np.asarray(own, np.int32))


def _config_of(parts: ProgramParts) -> MDMConfig:
    return PRESETS["fast"] if parts.config is None else parts.config


def _start_slots(
    spec: ProgramSpec, arrays: list[Array], key: Key[Array, ""], requests: ExplainRequest
) -> Slot:
    """Problems at their start."""
    parts = spec.parts(arrays)
    config = _config_of(parts)

    def one(request: ExplainRequest) -> Slot:
        choice = choose_target(parts.network, request, spec.ranks)
        own = jax.random.fold_in(key, request.number)
        how: dict[str, Any] = {"node": parts.node, "key": own}
        started, start_cost = mdm.warm_start(
            parts.network, request.image, choice.target, config=config, **how
        )
        problem = begin(
            parts.network, request.image, choice.target, fill=config.fill, **how
        )
        method = mdm.make_solver(parts.network, problem, node=parts.node, config=started)
        return Slot(
            problem,
            method.init(mdm.first_parameters(problem, started)),
            choice,
            jax.tree.map(jnp.int32, start_cost),
        )

    return jax.vmap(one)(requests)


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def enter(
    spec: ProgramSpec,
    arrays: list[Array],
    key: Key[Array, ""],
    slots: Slot,
    numbers: Int[Array, " n"],
    requests: ExplainRequest,
) -> Slot:
    """Put new problems into slots; a number beyond the last is none."""

    def on_device(
        arrays: list[Array],
        key: Key[Array, ""],
        slots: Slot,
        numbers: Int[Array, " n"],
        requests: ExplainRequest,
    ) -> Slot:
        fresh = _start_slots(spec, arrays, key, requests)
        return jax.tree.map(
            lambda old, new: old.at[numbers].set(new, mode="drop"), slots, fresh
        )

    specs = (REPLICATED, REPLICATED, SHARDED, SHARDED, SHARDED)
    return spec.over_devices(on_device, *specs)(arrays, key, slots, numbers, requests)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def advance(
    spec: ProgramSpec, arrays: list[Array], slots: Slot, quorum: Int[Array, " devices"]
) -> tuple[Slot, Bool[Array, " slots"]]:
    """Take steps until `quorum` problems of a device are over, or all of them; and which are."""

    def on_device(
        arrays: list[Array], slots: Slot, quorum: Int[Array, " 1"]
    ) -> tuple[Slot, Bool[Array, " slots"]]:
        parts = spec.parts(arrays)
        config = _config_of(parts)

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

    return spec.over_devices(on_device, REPLICATED, SHARDED, SHARDED)(arrays, slots, quorum)


@partial(jax.jit, static_argnums=0)
def leave(
    spec: ProgramSpec, arrays: list[Array], slots: Slot, numbers: Int[Array, " n"]
) -> ExplainResult:
    """The results of the problems in some slots, in their order."""

    def on_device(
        arrays: list[Array], slots: Slot, numbers: Int[Array, " n"]
    ) -> ExplainResult:
        parts = spec.parts(arrays)
        config = _config_of(parts)

        def one(slot: Slot) -> ExplainResult:
            state = (
                solver.restore_best(slot.state) if config.until_converged else slot.state
            )
            explanation = mdm.finish(
                parts.network,
                slot.problem,
                state,
                node=parts.node,
                config=config,
                start_cost=slot.start_cost,
            )
            return make_result(spec, explanation, slot.choice)

        return jax.vmap(one)(
            jax.tree.map(lambda leaf: leaf.at[numbers].get(mode="clip"), slots)
        )

    return spec.over_devices(on_device, REPLICATED, SHARDED, SHARDED)(
        arrays, slots, numbers
    )


def _empty_slots(program: DeviceProgram, requests: ExplainRequest, size: int) -> Slot:
    """Slots without problems: all over, so that nothing moves them."""

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        shape = (size * program.devices, *leaf.shape[1:])
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), shape)
        return jnp.zeros(shape, leaf.dtype)

    slots = jax.tree.map(
        blank,
        jax.eval_shape(
            partial(_start_slots, program.spec), program.arrays, program.key, requests
        ),
    )
    never = jnp.full_like(slots.state.steps, jnp.iinfo(jnp.int32).max)
    return program.shard(slots._replace(state=slots.state._replace(steps=never)))
