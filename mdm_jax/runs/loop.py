"""The loop of a run: read, explain, write, chunk by chunk, all three at the same time; what is
committed is never done again.

Rows enter the devices in order and may leave them in another; those of the oldest chunk are waited
for, and while it is written the devices go on with the next. No more is held than the rows on the
devices, a chunk and what is read ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data import open_source
from mdm_jax.data.class_mapping import class_number
from mdm_jax.data.loader import Fit
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.execution.keys import id_numbers
from mdm_jax.execution.timing import Timing, stopwatch
from mdm_jax.progress import NullProgress, Progress, Stopped
from mdm_jax.runs.batching import Pool, Row
from mdm_jax.runs.chunk_builder import FAILED, NO_TARGET, UNREADABLE, Assembly, Fact
from mdm_jax.runs.compiled import Question
from mdm_jax.runs.config import RunConfig
from mdm_jax.runs.locks import Share
from mdm_jax.runs.plan import Job, work_out
from mdm_jax.runs.store import Store, open_store

ALONE: Share = (0, 1)
"""the share of a process that does everything"""


class Ended(NamedTuple):
    """How a run, or a process's share of it, ended."""

    place: str
    rows: int
    """explained now"""
    before: int
    """rows of this share that had been committed before"""
    statuses: Counter[str]
    """of the rows explained now"""
    timing: Timing
    """of everything but the setting up"""
    busy: float
    """seconds in which the devices were at work, compilation included"""
    evaluations: int
    reasons: tuple[str, ...]
    """the first few of rows without an explanation"""

    @property
    def failed(self) -> int:
        return sum(self.statuses[name] for name in FAILED)


def run(
    predict: Any,
    source: Source | str,
    out: str | Path,
    config: RunConfig | None = None,
    *,
    fit: Fit | None = None,
    share: Share = ALONE,
    progress: Progress | None = None,
) -> Ended:
    """Explain every image of a source and keep everything at `out`; begun before, it goes on where
    it stopped.

    Args:
      predict: the network, as `mdm_jax.explain` takes it.
      source: labeled images with random access (`mdm_jax.data.Source`), or a name such as
        "folder:photos" (its test split).
      out: a folder, or a URL with gs:// or s3://.
      config: what is explained and how.
      fit: brings a picture (PIL, 8-bit RGB) to the network's input, float32 [h, w, c] in [0, 1]. By
        default that of a `Classifier`; for any other network the source's images are taken as they
        are.
      share: (i, n), to do the i-th of n shares, from 0; other processes do the others, at the same
        time if they like.
      progress: shows the rows that are done, and may ask the run to stop.

    An image that cannot be read or explained is a record with a status and a reason. Read it all
    with `mdm_jax.open_run`. Raises InputError for what cannot be, for a place that fails and for
    one that holds another run; Stopped when `progress` asks for it."""
    source = open_source(source, "test") if isinstance(source, str) else source
    job = work_out(predict, source, config or RunConfig(), fit=fit)
    return go(job, open_store(out), progress or NullProgress(), share)


def go(job: Job, store: Store, progress: Progress, share: Share = ALONE) -> Ended:
    """Do what is missing of a share. Raises InputError for a place that fails or holds another run,
    Stopped when asked."""
    index, count = share
    if not 0 <= index < count:
        raise InputError(f"the share is {share}: give (i, n) with i from 0 to n - 1")
    specs = (
        job.specs
    )  # a network, node or config that does not fit is found before anything is written
    store.refuse_others()
    with store.locked(share):
        store.tidy()
        store.begin(job.description(), job.defaults)
        store.create(specs, job.layout)
        return _Loop(job, store, progress, share).go()


def missing(job: Job, store: Store, share: Share) -> list[int]:
    """The chunks of a share that are not committed."""
    committed = store.committed()
    return [chunk for chunk in range(*_mine(job, share)) if chunk not in committed]


def _mine(job: Job, share: Share) -> tuple[int, int, int]:
    """Every n-th chunk: shares end together even where the images at the end of the data are
    harder."""
    index, count = share
    return index, job.layout.chunks, count


@dataclass
class _Loop:
    """What changes from row to row."""

    job: Job
    store: Store
    progress: Progress
    share: Share
    facts: dict[int, Fact] = field(default_factory=dict)
    """of rows that are on their way"""
    statuses: Counter[str] = field(default_factory=Counter)
    before: int = 0
    """rows of this share that were committed before"""
    evaluations: int = 0
    reasons: list[str] = field(default_factory=list)

    def go(self) -> Ended:
        log = self.store.log(self.share)
        todo = missing(self.job, self.store, self.share)
        mine = sum(
            len(self.job.layout.rows_of(chunk)) for chunk in range(*_mine(self.job, self.share))
        )
        new = sum(len(self.job.layout.rows_of(chunk)) for chunk in todo)
        log(f"begins: {mine - new} of {mine} rows are there, {len(todo)} chunks to do")
        self.before = mine - new
        self.progress.begin("explaining", mine, mine - new)
        pool = self.job.pool()
        written: Future[None] | None = None
        with stopwatch() as timing, closing(self._rows(todo)) as rows, ExitStack() as ending:
            ending.callback(self.progress.end)
            ending.callback(lambda: _ended(written))  # under the lock, whatever happens
            for number, chunk in enumerate(todo):
                if self.progress.wants_stop():
                    _result(written)
                    raise self._stopped(number, len(todo))
                assembly = self._filled(pool, rows, chunk, written)
                written = self.store.write(assembly.data())
                log(f"chunk {chunk}: {_told(assembly)}")
            _result(written)
        ended = Ended(
            place=self.store.name,
            rows=new,
            before=mine - new,
            statuses=self.statuses,
            timing=timing,
            busy=pool.busy,
            evaluations=self.evaluations,
            reasons=tuple(self.reasons),
        )
        log(
            f"ends: {new} rows in {timing.total:.1f} s, of which {timing.compiling:.1f} s compiling"
        )
        return ended

    def _filled(
        self, pool: Pool, rows: Iterator[Row], chunk: int, written: Future[None] | None
    ) -> Assembly:
        """The chunk with all its rows; what the devices do meanwhile is of the next ones.

        No row is taken before the chunk before it is `written`: what is lost when the process is
        killed is one chunk at most, and what lies on the devices."""
        assembly = Assembly(self.job, chunk)
        pool.fill(rows)
        _result(written)
        while not assembly.full:
            pool.fill(rows)
            for row, answer in pool.take(assembly.rows):
                assembly.put(self.facts.pop(row.number), answer)
                self._count(assembly.records[row.number])
        return assembly

    def _rows(self, chunks: Sequence[int]) -> Generator[Row, None, None]:
        """The rows of some chunks; what is known of each stays in `facts`."""
        job = self.job
        with closing(job.items(chunks)) as items:
            for read in items:
                label = class_number(job.numbers, read.label)
                name = (
                    str(job.source.class_names[read.label])
                    if 0 <= read.label < len(job.source.class_names)
                    else None
                )
                targets = job.targets.of(read.index, label)
                for rank in range(job.targets.count):
                    fact = Fact(
                        read.item * job.targets.count + rank, read.item, rank, read.id, label, name
                    )
                    question = None
                    if read.image is None:
                        fact = fact._replace(status=UNREADABLE, reason=read.reason)
                    elif rank >= len(targets):
                        fact = fact._replace(
                            status=NO_TARGET,
                            reason=(
                                "it has no label, or more than one"
                                if name is None
                                else f"the network has no class {name}"
                            ),
                        )
                    else:
                        question = Question(
                            read.image,
                            np.int32(targets[rank]),
                            id_numbers([read.id])[0],
                        )
                    self.facts[fact.row] = fact
                    yield Row(fact.row, question)

    def _count(self, record: dict[str, Any]) -> None:
        self.statuses[record["status"]] += 1
        self.evaluations += record.get("evaluations", 0)
        done = self.before + self.statuses.total()
        self.progress.advance(done, evaluations=float(self.evaluations))
        if record["status"] in FAILED and len(self.reasons) < 5:
            reason = record["reason"]
            self.reasons.append(reason if record["id"] in reason else f"{record['id']}: {reason}")

    def _stopped(self, done: int, todo: int) -> Stopped:
        return Stopped(
            f"stopped after {done} of {todo} chunks, which are committed: the same command goes on"
            " from there"
        )


def _ended(written: Future[None] | None) -> None:
    if written is not None:
        wait([written])


def _result(written: Future[None] | None) -> None:
    if written is not None:
        written.result()


def _told(assembly: Assembly) -> str:
    counted = Counter(record["status"] for record in assembly.records.values())
    return ", ".join(
        f"{count} {status.lower().replace('_', ' ')}" for status, count in sorted(counted.items())
    )
