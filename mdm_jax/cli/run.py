"""`mdm run`: explain every image of a data set, in as many processes as there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from mdm_jax import renamed_settings
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.options import Options, PresetOptions
from mdm_jax.cli.progress_bar import RunBar, stoppable
from mdm_jax.errors import InputError
from mdm_jax.progress import Stopped
from mdm_jax.runs import loop, verify
from mdm_jax.runs.chunk_builder import FAILED
from mdm_jax.runs.config import RunJob
from mdm_jax.runs.distributed import join_cluster, parse_share
from mdm_jax.runs.estimate import Estimate, estimate
from mdm_jax.runs.locks import Share
from mdm_jax.runs.loop import RunSummary
from mdm_jax.runs.plan import RunPlan, prepare
from mdm_jax.runs.store import open_store
from mdm_jax.types import REASONS, Status

# Options that make a run what it is, as run.json keeps them to open it again; `settings` are those
# of MDM.
# Exit code of a share that ends while the run is not whole and nobody is at work on the rest.
INCOMPLETE = 4

RECORDED = (
    *("data", "split", "limit", "model", "weights", "image_size", "dtype"),
    *("method", "preset", "targets", "node", "seed", "saliency", "evidence", "chunk"),
    *("classes", "object_values"),
)

# What those options were before they existed.
BEFORE = {"evidence": False, "classes": None, "object_values": None}


@dataclass(frozen=True, kw_only=True)
class RunCommand(PresetOptions, RunJob, Options):
    """Explain every image of a data set and keep everything.

    The same command again goes on where it stopped. Any number of processes may share a run: on
    SLURM, Open MPI, Kubernetes and TPU pods the same command with --distributed, and anywhere else
    with --shard 0/4, --shard 1/4 ... on each machine. OUT may be a folder or a bucket (gs://,
    s3://).

    Examples:
      mdm run --data folder:photos --model resnet50 --out runs/photos
      mdm run --data folder:photos --split all --targets top3 --saliency --out runs/top3
      mdm run --data digits --limit 2000 --out runs/digits
      mdm run --data tfds:my_photos --method grad_cam --out gs://bucket/run --shard 0/4
      mdm run --data folder:photos --model resnet50 --out runs/photos --dry-run
      mdm run status runs/photos
      mdm run verify runs/photos
    """

    shard: str | None = None
    """i/n: do the i-th of n shares, i from 0; the exit code is 4 where chunks of other shares are
    missing and no process is at work"""
    distributed: bool = False
    """share the run with the other processes of the cluster that this one runs on"""
    coordinator: str | None = None
    """host:port of the first process where there is no cluster to ask; needs --shard"""
    strict: bool = False
    """exit with code 3 when an image could not be read or explained"""
    dry_run: bool = False
    """say what would run, how large it gets and how long it takes, from one timed batch; writes
    nothing"""

    def run(self, terminal: Terminal) -> Result:
        """Do the run, or this process's share of it."""
        share = find_share(self.shard, self.distributed, self.coordinator)
        if self.dry_run:
            return self._estimate(share)
        store = open_store(self.out)
        plan = open_job(self)
        summary = watch(partial(loop.run_plan, plan, store, share=share), terminal)
        code = 0
        if self.strict:
            # Of all shares: whoever ends last must not say that all went well.
            statuses = verify.status(store).statuses
            code = 3 if any(statuses.get(name) for name in FAILED) else 0
        statuses = dict(summary.statuses.most_common())
        sentence, *notes = _describe(summary)
        missing = loop.missing_chunks(plan, store, loop.WHOLE_RUN)
        if missing:
            is_left = not store.running()
            notes.append(_describe_missing(len(missing), plan.layout.chunks, is_left))
            code = INCOMPLETE if is_left else code
        return Result(count_rows(statuses), sentence, [summary.place], code, notes=notes)

    def _estimate(self, share: Share) -> Result:
        """What the run would do, and what it would cost; nothing is written."""
        store = open_store(self.out)
        job = open_job(self)
        store.agrees(job.description(), job.defaults)
        committed = job.layout.chunks - len(loop.missing_chunks(job, store, loop.WHOLE_RUN))
        todo = loop.missing_chunks(job, store, share)
        facts = _facts(job, estimate(job, todo), committed, len(todo))
        rows = [{"what": what, "is": text} for what, text in facts.items()]
        summary = (
            "nothing was written (--dry-run); times are those of one batch, sizes before"
        )
        summary += " compression"
        return Result(rows, summary, [])


def find_share(shard: str | None, distributed: bool, coordinator: str | None) -> Share:
    """The share of this process. Raises InputError for options that do not go together."""
    share = None if shard is None else parse_share(shard)
    if not distributed and not coordinator:
        return share or loop.WHOLE_RUN
    if distributed and shard and not coordinator:
        raise InputError(
            "--distributed asks the cluster for the share: leave --shard out, or give --shard alone"
        )
    return join_cluster(coordinator, share)


def open_job(job: RunJob) -> RunPlan:
    """The network, the images and the plan of a run. Raises InputError for what cannot be."""
    config = job.run_config()  # before weights are loaded
    source = job.open()
    classifier = job.load()
    request: dict[str, Any] = {name: getattr(job, name) for name in RECORDED}
    request["settings"] = dict(job.mdm)
    request["preprocessing"] = dataclasses.asdict(classifier.preprocessing)
    return prepare(classifier, source, config, request=request)


def request_of(description: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the run was asked for, with the presets of today; None for a run of a program."""
    if not description.get("request"):
        return None
    request = BEFORE | description["request"]
    config = description["settings"].get("config") or {}
    if description["settings"].get("method") == "mdm" and (
        renamed_settings.is_older_mdm(config)
    ):
        method, preset = request.get("method"), request.get("preset")
        if method == "mdm":
            request["preset"] = renamed_settings.OLDER_PRESETS.get(preset, preset)
        elif method is not None:
            request["method"] = renamed_settings.with_older_preset(method)
    return request


def job_of_request(request: Mapping[str, Any], **changed: Any) -> RunJob:
    """The job of a request, by the names of today, with `changed` in place of its own."""
    known = {name: request[name] for name in RECORDED}
    known["node"] = renamed_settings.value_name("node", request["node"])
    settings = renamed_settings.current(request["settings"], "mdm")
    return RunJob(**(known | changed), mdm=settings)


def watch(go: Callable[..., RunSummary], terminal: Terminal) -> RunSummary:
    """Do a run under a bar; Ctrl-C ends it after a chunk."""
    with stoppable(terminal.watch(RunBar())) as progress:
        try:
            return go(progress=progress)
        except Stopped as stopped:
            raise KeyboardInterrupt(str(stopped)) from None


def count_rows(statuses: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row for each status of images."""
    rows = []
    for name, count in statuses.items():
        rows.append({"status": name.lower().replace("_", " "), "rows": count})
    return rows


def describe_useless(statuses: Mapping[str, int]) -> list[str]:
    """How many rows have maps that explain nothing, and why, by status."""
    return [
        f"{statuses[status.name]} {status.name.lower()}: {REASONS[status]}"
        for status in (Status.LOST, Status.EMPTY)
        if statuses.get(status.name)
    ]


def _describe(ended: RunSummary) -> list[str]:
    """A sentence on what was done and how fast, and others on what could not be explained."""
    if not ended.rows and ended.before:
        return [f"nothing was left to do: {ended.before} are there"]
    if not ended.rows:
        return ["this share has no chunks: nothing to do"]
    timing = ended.timing
    running = max(timing.running, 1e-9)
    busy = min(1.0, ended.busy / max(timing.total, 1e-9))
    explained = str(ended.rows)
    if ended.failed:
        explained = f"{ended.rows - ended.failed} of {ended.rows}"
    sentence = (
        f"{explained} explained in {timing.running:.1f} s after {timing.compiling:.1f} s of"
        f" compilation: {ended.rows / running:.2f} images/s,"
        f" {ended.evaluations / running:.1f} evaluations/s, devices at work {busy:.0%} of the time"
    )
    if ended.before:
        sentence += f"; {ended.before} were there"
    parts = [sentence]
    parts += describe_useless(ended.statuses)
    parts += [f"not explained: {reason}" for reason in ended.reasons]
    more = ended.failed - len(ended.reasons)
    if more:
        parts.append(f"and {more} more; the records have the reason of each")
    return parts


def _describe_missing(missing: int, chunks: int, is_left: bool) -> str:
    """That a run is not whole; `is_left` where no process is at work on it."""
    sentence = f"the run is not whole: {missing} of {chunks} chunks are missing, and "
    if not is_left:
        return sentence + "other processes are at work"
    return sentence + (
        "no process is at work on them: do the shares that are left, or the same command without"
        " --shard"
    )


def _facts(job: RunPlan, cost: Estimate, committed: int, todo: int) -> dict[str, str]:
    """A dry run's table; `todo` are the chunks of this process."""
    layout = job.layout
    device = jax.local_devices()[0].device_kind
    slots = " (slots)" if job.uses_slots else ""
    return {
        "images": str(layout.items),
        "targets of each": str(layout.targets),
        "chunks": f"{layout.chunks} of {layout.chunk} images, {committed} committed",
        "this process": f"{cost.rows} rows in {todo} chunks",
        "devices": f"{jax.local_device_count()} x {device}",
        "at a time": f"{job.micro_batch} on each{slots}",
        "compilation": f"{cost.compiling:.1f} s",
        "one batch": f"{cost.batch:.2f} s for {cost.batch_rows}",
        "time": _format_seconds(cost.seconds),
        "store": format_bytes(cost.bytes),
    }


def _format_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def format_bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:  # more would be rounded to 1e+03
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
