"""A benchmark that ends in time.

A pilot on a few images measures what each method and metric takes; from that follows how many
images fit. The images are taken in an order in which fewer are spread over the data as evenly as
more are, so a larger budget goes on with those of a smaller one. Cheap methods come first. Where
time runs out nevertheless, the last methods have fewer images: the first ones, so that differences
are paired over those.

A budget counts from the start, the loading of networks and compilation included. What is begun is
finished: the pilot of a method, or a chunk that was expected to fit."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax

from mdm_jax.data.network_input import nested_order
from mdm_jax.evaluation.benchmark_images import NoImages
from mdm_jax.evaluation.benchmark_parts import MAPS, NetworkWork, Part
from mdm_jax.evaluation.measure import ON_ACCELERATOR
from mdm_jax.methods import ConfiguredMethod
from mdm_jax.metrics import Metric

# Images of the pilot; on an accelerator as many as are measured at a time.
PILOT = 2

# Items read for the pilot beyond its own: some may not be usable.
READ_AHEAD = 8

# A method that costs more forward evaluations is a costly one: 100 with a gradient.
COSTLY = 300.0

# Share of the budget that is kept for tables, figures, and images slower than the pilot's.
RESERVE = 0.05


@dataclass(frozen=True)
class Deadline:
    """When the work is to end, in seconds of a clock."""

    clock: Callable[[], float]
    end: float

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 when it is over."""
        return self.end - self.clock()


def work_in_time(
    works: Sequence[NetworkWork],
    methods: Sequence[ConfiguredMethod],
    metrics: Mapping[str, Metric],
    start: float,
    clock: Callable[[], float],
) -> list[str]:
    """Work on as many images as fit into the budget; sentences about them.

    `start` is when the budget began. Without a budget every image is used, the costly methods
    limited all the same.
    """
    config, source = works[0].config, works[0].source
    budget = math.inf if config.budget is None else 60 * config.budget
    deadline = Deadline(clock, start + (1 - RESERVE) * budget)
    order = nested_order(len(source))[: config.limit]
    for work in works:
        for method in methods:
            work.add_part(method, metrics)
        _read_first(work, order)
    parts = [part for work in works for part in work.parts]
    for part in parts:
        if deadline.left > 0:
            # on the next images that it lacks
            count = min(part.done + _pilot_size(), len(part.run.images))
            if _target(part, count) > part.done:
                part.work(_target(part, count), clock)
    # never fewer than some method has already
    count = max(_items_done(works), _choose_count(works, len(order), deadline.left))
    while True:
        for work in works:
            work.read_images(order[:count])
        for part in parts:
            part.look_up()
        for part in sorted(parts, key=lambda part: part.seconds_per_image):
            work_until(part, _target(part, len(part.run.images)), deadline)
        more = _choose_count(works, len(order), deadline.left)
        if more <= count:
            break
        count = more  # the pilot was slower than the rest
    notes = [f"{work.name}: {work.note}{_describe_fewer(work)}" for work in works]
    if config.budget is not None:
        minutes = (clock() - start) / 60
        notes.append(
            f"a budget of {config.budget:g} minutes, of which {minutes:.1f} were used, chose"
            f" {count} of {len(order)} items{_describe_time(parts)}"
        )
    return notes


def work_until(part: Part, target: int, deadline: Deadline) -> None:
    """Work on a part until it has `target` images, or no further image fits.

    It stops between chunks, each of which is as large as fits.
    """
    while part.done < target and not part.reason:
        seconds, left = part.seconds_per_image, deadline.left
        if left <= 0 or left < seconds:
            return
        fitting = left / seconds if seconds > 0 else math.inf
        step = min(part.run.config.chunk, target - part.done, fitting)
        before = part.done
        part.work(part.done + max(1, int(step)), deadline.clock)
        if part.done == before:
            return


def _read_first(work: NetworkWork, order: Sequence[int]) -> None:
    """Read images for the pilot: so many that each part lacks some, where there are as many."""
    count = READ_AHEAD + _pilot_size()
    while True:
        enough = False
        try:
            work.read_images(order[:count])
        except NoImages:
            if count >= len(order):
                raise
        else:
            for part in work.parts:
                part.look_up()
            done = max(part.done for part in work.parts)
            enough = done + _pilot_size() <= len(work.images)
        if enough or count >= len(order):
            return
        count *= 2


def _pilot_size() -> int:
    return PILOT if jax.default_backend() == "cpu" else ON_ACCELERATOR


def _target(part: Part, images: int) -> int:
    """How many of so many images a part is worked out on."""
    limit = part.run.config.costly_limit
    if limit is None or part.cost <= COSTLY:
        return images
    return min(images, limit)


def _choose_count(works: Sequence[NetworkWork], most: int, seconds: float) -> int:
    """As many items as can be worked out in these seconds, by what each part took so far."""
    counts = range(most + 1)
    return bisect.bisect_right(counts, seconds, key=lambda n: predict(works, n)) - 1


def predict(works: Sequence[NetworkWork], items: int) -> float:
    """Seconds until every part has the images among the first `items`."""
    total = 0.0
    for work in works:
        images = int(items * work.usable_share)
        for part in work.parts:
            missing = 0 if part.reason else _target(part, images) - part.done
            total += max(0, missing) * part.seconds_per_image
    return total


def _items_done(works: Sequence[NetworkWork]) -> int:
    """The items of the part that is furthest."""
    return max(
        math.ceil(part.done / work.usable_share) for work in works for part in work.parts
    )


def _describe_fewer(work: NetworkWork) -> str:
    """Which methods have fewer images than the others."""
    fewer: dict[int, list[str]] = {}
    for part in work.parts:
        if 0 < part.done < len(work.images):
            fewer.setdefault(part.done, []).append(part.label)
    texts = [f"the first {count} for {', '.join(names)}" for count, names in fewer.items()]
    return f"; only {', '.join(texts)}" if texts else ""


def _describe_time(parts: Sequence[Part]) -> str:
    """What took most of the time."""
    spent: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.seconds.items():
            what = f"maps of {part.label}" if name == MAPS else name
            spent[what] = spent.get(what, 0.0) + seconds
    most = sorted(spent, key=lambda what: -spent[what])[:3]
    texts = [f"{what} {spent[what] / 60:.1f}" for what in most if spent[what]]
    return f"; most minutes: {', '.join(texts)}" if texts else ""
