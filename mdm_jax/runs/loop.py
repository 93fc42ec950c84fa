"""The loop of a run: read, explain and write, chunk by chunk, all three at the same time.

What is committed is never done again.

Rows enter the devices in order and may leave them in another; those of the oldest chunk are waited
for, and while it is written the devices go on with the next. No more is held than the rows on the
devices, a chunk and what is read ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdm_jax.data import open_source
from mdm_jax.data.class_mapping import class_number
from mdm_jax.data.item_reader import ReadResult
from mdm_jax.data.loader import Fit
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.keys import id_numbers
from mdm_jax.execution.timing import Timing, stopwatch
from mdm_jax.progress import NullProgress, Progress, Stopped
from mdm_jax.runs.batching import Pool, QueuedRow
from mdm_jax.runs.chunk_builder import FAILED, NO_TARGET, UNREADABLE, ChunkBuilder, RowInfo
from mdm_jax.runs.compiled import ExplainRequest
from mdm_jax.runs.config import RunConfig
from mdm_jax.runs.locks import Share
from mdm_jax.runs.plan import RunPlan, prepare
from mdm_jax.runs.store import Store, open_store

# The share of a process that does everything.
WHOLE_RUN: Share = (0, 1)

# Reasons that a summary tells.
MAX_REASONS = 5
NO_LABEL = "it has no label, or more than one"


class RunSummary(NamedTuple):
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
        """Rows without an explanation."""
        return sum(self.statuses[name] for name in FAILED)


@own_settings()
def run(
    predict: Any,
    source: Source | str,
    out: str | Path,
    config: RunConfig | None = None,
    *,
    fit: Fit | None = None,
    share: Share = WHOLE_RUN,
    progress: Progress | None = None,
) -> RunSummary:
    """Explain every image of a source and keep everything at `out`.

    A run that was begun there before goes on where it stopped.

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
    plan = prepare(predict, source, config or RunConfig(), fit=fit)
    return run_plan(plan, open_store(out), progress or NullProgress(), share)


@own_settings()
def run_plan(
    plan: RunPlan, store: Store, progress: Progress, share: Share = WHOLE_RUN
) -> RunSummary:
    """Do what is missing of a share.

    Raises InputError for a place that fails or holds another run, Stopped when asked."""
    index, count = share
    if not 0 <= index < count:
        raise InputError(f"the share is {share}: give (i, n) with i from 0 to n - 1")
    # Traces the program, so that what does not fit is found before anything is written.
    specs = plan.specs
    store.refuse_others()
    with store.locked(share):
        store.remove_partial_files()
        store.begin(plan.description(), plan.defaults)
        store.create(specs, plan.layout)
        return _Loop(plan, store, progress, share).run()


def missing_chunks(plan: RunPlan, store: Store, share: Share) -> list[int]:
    """The chunks of a share that are not committed."""
    committed = store.committed()
    return [chunk for chunk in _chunks_of(plan, share) if chunk not in committed]


def _chunks_of(plan: RunPlan, share: Share) -> range:
    """Every n-th chunk: shares end together even where the images at the end are harder."""
    index, count = share
    return range(index, plan.layout.chunks, count)


@dataclass
class _Loop:
    """What changes from row to row."""

    plan: RunPlan
    store: Store
    progress: Progress
    share: Share
    infos: dict[int, RowInfo] = field(default_factory=dict)
    """of rows that are on their way"""
    statuses: Counter[str] = field(default_factory=Counter)
    before: int = 0
    """rows of this share that were committed before"""
    evaluations: int = 0
    reasons: list[str] = field(default_factory=list)

    def run(self) -> RunSummary:
        """Do the chunks that are missing."""
        log = self.store.log(self.share)
        todo = missing_chunks(self.plan, self.store, self.share)
        total = self._count_rows(_chunks_of(self.plan, self.share))
        new = self._count_rows(todo)
        self.before = total - new
        log(f"begins: {self.before} of {total} rows are there, {len(todo)} chunks to do")
        self.progress.begin("explaining", total, self.before)
        pool = self.plan.pool()
        writing: Future[None] | None = None
        with (
            stopwatch() as timing,
            closing(self._queue(todo)) as rows,
            ExitStack() as ending,
        ):
            ending.callback(self.progress.end)
            # Whatever happens: the lock must not be given back while a chunk is written.
            ending.callback(lambda: _wait(writing))
            for number, chunk in enumerate(todo):
                if self.progress.wants_stop():
                    _raise_failure(writing)
                    raise self._stopped(number, len(todo))
                builder = self._fill_chunk(pool, rows, chunk, writing)
                writing = self.store.write(builder.build())
                log(f"chunk {chunk}: {_count_statuses(builder)}")
            _raise_failure(writing)
        log(
            f"ends: {new} rows in {timing.total:.1f} s, of which {timing.compiling:.1f} s compiling"
        )
        return RunSummary(
            place=self.store.name,
            rows=new,
            before=self.before,
            statuses=self.statuses,
            timing=timing,
            busy=pool.busy,
            evaluations=self.evaluations,
            reasons=tuple(self.reasons),
        )

    def _count_rows(self, chunks: Iterable[int]) -> int:
        return sum(len(self.plan.layout.rows_of(chunk)) for chunk in chunks)

    def _fill_chunk(
        self,
        pool: Pool,
        rows: Iterator[QueuedRow],
        chunk: int,
        writing: Future[None] | None,
    ) -> ChunkBuilder:
        """The chunk with all its rows; what the devices do meanwhile is of the next ones."""
        builder = ChunkBuilder(self.plan, chunk)
        pool.fill(rows)
        # No row is taken before the last chunk is written: what is lost when the process is killed
        # is one chunk at most, and what lies on the devices.
        _raise_failure(writing)
        while not builder.is_complete:
            pool.fill(rows)
            for row, result in pool.take(builder.rows):
                builder.add(self.infos.pop(row.number), result)
                self._count(builder.records[row.number])
        return builder

    def _queue(self, chunks: Sequence[int]) -> Generator[QueuedRow, None, None]:
        """The rows of some chunks; what is known of each stays in `infos`."""
        plan = self.plan
        with closing(plan.items(chunks)) as items:
            for read in items:
                label = class_number(plan.numbers, read.label)
                targets = plan.targets.of(read.index, label)
                for rank in range(plan.targets.count):
                    info = self._info(read, label, rank, len(targets))
                    request = None
                    if not info.status:
                        assert read.image is not None
                        request = ExplainRequest(
                            read.image, np.int32(targets[rank]), id_numbers([read.id])[0]
                        )
                    self.infos[info.row] = info
                    yield QueuedRow(info.row, request)

    def _info(self, read: ReadResult, label: int, rank: int, targets: int) -> RowInfo:
        """What is known of the row of an item's target, of which it has so many."""
        names = self.plan.source.class_names
        has_name = 0 <= read.label < len(names)
        name = str(names[read.label]) if has_name else None
        row = read.item * self.plan.targets.count + rank
        info = RowInfo(row, read.item, rank, read.id, label, name)
        if read.image is None:
            return info._replace(status=UNREADABLE, reason=read.reason)
        if rank >= targets:
            reason = f"the network has no class {name}" if has_name else NO_LABEL
            return info._replace(status=NO_TARGET, reason=reason)
        return info

    def _count(self, record: dict[str, Any]) -> None:
        self.statuses[record["status"]] += 1
        self.evaluations += record.get("evaluations", 0)
        done = self.before + self.statuses.total()
        self.progress.advance(done, evaluations=float(self.evaluations))
        if record["status"] in FAILED and len(self.reasons) < MAX_REASONS:
            reason = record["reason"]
            self.reasons.append(
                reason if record["id"] in reason else f"{record['id']}: {reason}"
            )

    def _stopped(self, done: int, todo: int) -> Stopped:
        return Stopped(
            f"stopped after {done} of {todo} chunks, which are committed: the same command goes on"
            " from there"
        )


def _wait(writing: Future[None] | None) -> None:
    if writing is not None:
        wait([writing])


def _raise_failure(writing: Future[None] | None) -> None:
    if writing is not None:
        writing.result()


def _count_statuses(builder: ChunkBuilder) -> str:
    counted = Counter(record["status"] for record in builder.records.values())
    return ", ".join(
        f"{count} {status.lower().replace('_', ' ')}"
        for status, count in sorted(counted.items())
    )
