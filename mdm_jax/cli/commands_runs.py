"""What `mdm run`, `mdm run status` and `mdm run verify` do, without the command line."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from mdm_jax import renamed_settings
from mdm_jax.cli.explain import Result
from mdm_jax.cli.options import chosen
from mdm_jax.cli.progress_bar import RunBar, stoppable
from mdm_jax.data import open_source
from mdm_jax.errors import InputError
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import Stopped
from mdm_jax.runs import loop, verify
from mdm_jax.runs.chunk_builder import FAILED
from mdm_jax.runs.config import RunConfig
from mdm_jax.runs.distributed import joined, written
from mdm_jax.runs.estimate import estimate
from mdm_jax.runs.locks import Share
from mdm_jax.runs.loop import Ended
from mdm_jax.runs.plan import Job, work_out
from mdm_jax.runs.reader import describe
from mdm_jax.runs.store import open_store
from mdm_jax.storage.stored_format import FORMAT

ASKED = (
    *("data", "split", "limit", "model", "weights", "image_size", "dtype"),
    *("method", "preset", "targets", "node", "seed", "saliency", "chunk"),
)
"""options that make a run what it is, as run.json keeps them to open it again; with `settings`,
those of MDM"""
Request = Mapping[str, Any]


def share_of(shard: str | None, distributed: bool, coordinator: str | None) -> Share:
    """The share of this process. Raises InputError for options that do not go together."""
    share = None if shard is None else written(shard)
    if distributed or coordinator:
        if distributed and shard and not coordinator:
            raise InputError(
                "--distributed asks the cluster for the share: leave --shard out, or give --shard"
                " alone"
            )
        return joined(coordinator, share)
    return share or loop.ALONE


def job_of(request: Request, how: Mapping[str, Any]) -> Job:
    """The job that a request describes; `how` is what may change when it goes on."""
    asked = RunConfig(
        method=chosen(request["method"], request["preset"], dict(request["settings"])),
        targets=request["targets"],
        node=request["node"],
        seed=request["seed"],
        limit=request["limit"],
        saliency=request["saliency"],
        chunk=request["chunk"],
        **how,
    )
    asked.resolve()  # before weights are loaded
    source = open_source(request["data"], request["split"])
    classifier = load_model(
        request["model"],
        weights=request["weights"],
        image_size=request["image_size"],
        dtype=request["dtype"],
    )
    told = dict(request) | {"preprocessing": dataclasses.asdict(classifier.preprocessing)}
    return work_out(classifier, source, asked, request=told)


def run(request: Request, how: Mapping[str, Any], out: str, share: Share) -> tuple[Result, int]:
    """Do a run, or a share of it; the result and how many rows of all that is committed could not
    be explained."""
    store = open_store(out)
    ended = _watched(partial(loop.go, job_of(request, how), store, share=share))
    failed = sum(count for name, count in verify.status(store).statuses.items() if name in FAILED)
    return Result(_rows(ended), _summary(ended), [ended.place]), failed


def _watched(go: Any) -> Ended:
    with stoppable(RunBar()) as progress:
        try:
            return go(progress=progress)
        except Stopped as stopped:
            raise KeyboardInterrupt(str(stopped)) from None


def _rows(ended: Ended) -> list[dict[str, Any]]:
    return _counted(dict(ended.statuses.most_common()))


def _counted(statuses: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"status": name.lower().replace("_", " "), "rows": count}
        for name, count in statuses.items()
    ]


def _summary(ended: Ended) -> str:
    if not ended.rows:
        return (
            f"nothing was left to do: {ended.before} are there"
            if ended.before
            else "this share has no chunks: nothing to do"
        )
    running = max(ended.timing.running, 1e-9)
    explained = f"{ended.rows - ended.failed} of {ended.rows}" if ended.failed else f"{ended.rows}"
    summary = (
        f"{explained} explained in {ended.timing.running:.1f} s after {ended.timing.compiling:.1f}"
        " s of compilation: "
    )
    summary += (
        f"{ended.rows / running:.2f} images/s, {ended.evaluations / running:.1f} evaluations/s, "
    )
    summary += (
        f"devices at work {min(1.0, ended.busy / max(ended.timing.total, 1e-9)):.0%} of the time"
    )
    summary += f"; {ended.before} were there" if ended.before else ""
    summary += "".join(f"\n  not explained: {reason}" for reason in ended.reasons)
    more = ended.failed - len(ended.reasons)
    return summary + (f"\n  and {more} more; the records have the reason of each" if more else "")


def dry_run(request: Request, how: Mapping[str, Any], out: str, share: Share) -> Result:
    """What a run would do, and what it would cost; nothing is written."""
    store = open_store(out)
    job = job_of(request, how)
    store.agrees(job.description(), job.defaults)
    there = job.layout.chunks - len(loop.missing(job, store, loop.ALONE))
    todo = loop.missing(job, store, share)
    told = estimate(job, todo)
    rows = [
        {"what": "images", "is": str(job.layout.items)},
        {"what": "targets of each", "is": str(job.layout.targets)},
        {
            "what": "chunks",
            "is": f"{job.layout.chunks} of {job.layout.chunk} images, {there} committed",
        },
        {"what": "this process", "is": f"{told.rows} rows in {len(todo)} chunks"},
        {
            "what": "devices",
            "is": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        },
        {
            "what": "at a time",
            "is": f"{job.micro_batch} on each{' (slots)' if job.uses_slots else ''}",
        },
        {"what": "compilation", "is": f"{told.compiling:.1f} s"},
        {"what": "one batch", "is": f"{told.batch:.2f} s for {told.together}"},
        {"what": "time", "is": _span(told.seconds)},
        {"what": "store", "is": _bytes(told.bytes)},
    ]
    return Result(
        rows,
        "nothing was written (--dry-run); times are those of one batch, sizes before compression",
        [],
    )


def status(place: str) -> Result:
    """How far a run is."""
    progress = verify.status(open_store(place))
    rows = _counted(progress.statuses)
    summary = (
        f"{progress.committed} of {progress.chunks} chunks, {sum(progress.statuses.values())} of"
        f" {progress.rows} rows"
    )
    summary += "" if progress.bytes is None else f", {_bytes(progress.bytes)}"
    summary += "".join(
        f"\n  at work: share {index} of {count}" for index, count in progress.running
    )
    if progress.format < FORMAT:
        summary += (
            f"\n  an older version began it (format {progress.format}, now {FORMAT}): it is read"
            " and gone on with as it is"
        )
    return Result(rows, summary, [])


def verify_run(
    place: str, moved: Mapping[str, str], check_only: bool, micro_batch: int | None = None
) -> tuple[Result, int]:
    """Find what is wrong with a run and compute it again; the result and the number of faults that
    are left."""
    store = open_store(place)
    start = time.perf_counter()
    faults = verify.check(store)
    rows = [{"what": fault.what, "file": fault.key, "why": fault.sentence} for fault in faults]
    if not faults:
        return Result(rows, "everything is as it was written", []), 0
    summary = f"{_faults(len(faults))} found in {time.perf_counter() - start:.1f} s"
    if check_only:
        return Result(rows, summary, []), len(faults)
    request = describe(store).get("request")
    if request is None:
        with store.locked(loop.ALONE):
            verify.repair(store, faults)
        summary += "; what was faulty is taken back, and the program that made the run computes it"
        return Result(rows, summary, []), len(verify.check(store))
    job = _again(dict(request) | dict(moved), {"micro_batch": micro_batch})
    with store.locked(loop.ALONE):
        verify.mend(store, job)
    ended = _watched(partial(loop.go, job, store))
    left = len(verify.check(store))
    return (
        Result(rows, f"{summary}, {ended.rows} rows computed again, {_faults(left)} left", []),
        left,
    )


def _again(request: Request, how: Mapping[str, Any]) -> Job:
    """The job of a run that was begun before. Raises InputError where its images or its network are
    not where they were."""
    if missing := {*ASKED, "settings"} - request.keys():
        lacking = ", ".join(sorted(missing))
        raise InputError(
            f"the request in run.json lacks {lacking}: the same `mdm run` command again writes it"
            " anew"
        )
    try:
        return job_of(_current(request), how)
    except InputError as error:
        raise InputError(
            f"the run cannot be opened again ({error}): give --data and --weights where they"
            " are now"
        ) from error


def _current(request: Request) -> dict[str, Any]:
    """A request with settings and values by the names of today."""
    settings = renamed_settings.current(request["settings"], "mdm")
    node = renamed_settings.value_name("node", request["node"])
    return dict(request) | {"settings": settings, "node": node}


def _faults(count: int) -> str:
    return f"{count} fault" if count == 1 else f"{count} faults"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"
