"""`mdm run status` and `mdm run verify`: how far a run is, and what of it is damaged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import tyro

from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.options import MovedData, Options, positional
from mdm_jax.cli.run import (
    RECORDED,
    count_rows,
    describe_useless,
    format_bytes,
    job_of_request,
    open_job,
    request_of,
    watch,
)
from mdm_jax.errors import InputError
from mdm_jax.plugins import UnnamedCode
from mdm_jax.runs import loop, verify
from mdm_jax.runs.description_copy import lost_description, restore_description
from mdm_jax.runs.plan import RunPlan
from mdm_jax.runs.reader import describe
from mdm_jax.runs.store import DESCRIPTION, Store, open_store
from mdm_jax.storage.stored_format import FORMAT


@dataclass(frozen=True, kw_only=True)
class RunStatusCommand(Options):
    """How far a run is: chunks, images by status, size, and who is at work.

    Examples:
      mdm run status runs/photos
    """

    place: Annotated[tyro.conf.Positional[str], positional("RUN")] = ""
    """folder or URL of the run"""

    def run(self, terminal: Terminal) -> Result:
        """Count what is committed."""
        status = verify.status(_open(self.place))
        summary = f"{status.committed} of {status.chunks} chunks,"
        summary += f" {sum(status.statuses.values())} of {status.rows} rows"
        if status.bytes is not None:
            summary += f", {format_bytes(status.bytes)}"
        notes = describe_useless(status.statuses)
        for index, count in status.running:
            notes.append(f"at work: share {index} of {count}")
        if status.format < FORMAT:
            notes.append(
                f"an older version began it (format {status.format}, now {FORMAT}):"
                " it is read and gone on with as it is"
            )
        return Result(count_rows(status.statuses), summary, [], notes=notes)


@dataclass(frozen=True, kw_only=True)
class RunVerifyCommand(MovedData, Options):
    """Find chunks of a run that are missing, duplicate or corrupt.

    They are computed again. Exits with code 3 if any stay.

    Examples:
      mdm run verify runs/photos
      mdm run verify runs/photos --check-only
      mdm run verify runs/photos --data folder:elsewhere/photos
    """

    place: Annotated[tyro.conf.Positional[str], positional("RUN")] = ""
    """folder or URL of the run"""
    check_only: bool = False
    """only say what is wrong"""
    weights: str | None = None
    """where the weights are now; those of the run when not given"""
    micro_batch: int | None = None
    """problems on each device at a time; where it was given to the run, give the same, as others
    agree to rounding only"""

    def run(self, terminal: Terminal) -> Result:
        """Find the faults, and compute again what is faulty."""
        store = _open(self.place)
        start = time.perf_counter()
        lost = lost_description(store)
        if lost and self.check_only:
            row = {"what": lost[0], "file": DESCRIPTION, "why": lost[1]}
            return Result([row], "without --check-only the copy is put back", [], 3)
        if lost:
            with store.locked(loop.WHOLE_RUN):
                restore_description(store)
        others = verify.check(store)
        faults = [
            *([verify.Fault(None, lost[0], DESCRIPTION, lost[1])] if lost else []),
            *others,
        ]
        rows = [
            {"what": fault.what, "file": fault.key, "why": fault.sentence}
            for fault in faults
        ]
        if not faults:
            return Result(rows, "everything is as it was written", [])
        summary = (
            f"{_count_faults(len(faults))} found in {time.perf_counter() - start:.1f} s"
        )
        if self.check_only:
            return Result(rows, summary, [], 3)
        if not others:
            return _left(rows, f"{summary}, 0 rows computed again", store)
        request = request_of(describe(store))
        # A run of a program: its functions and images have no names that a command could use.
        if request is None:
            with store.locked(loop.WHOLE_RUN):
                verify.repair(store, others)
            summary += "; what was faulty is taken back, and the program that made the run"
            summary += " computes it"
            return _left(rows, summary, store)
        job = self._reopen(request)
        with store.locked(loop.WHOLE_RUN):
            verify.mend(store, job)
        computed = watch(partial(loop.run_plan, job, store), terminal).rows
        return _left(rows, f"{summary}, {computed} rows computed again", store)

    def _reopen(self, request: Mapping[str, Any]) -> RunPlan:
        """The job of the run. Raises InputError where its images or its network are not where they
        were."""
        if missing := {*RECORDED, "settings"} - request.keys():
            raise InputError(
                f"the request in run.json lacks {', '.join(sorted(missing))}: the same `mdm run`"
                " command again writes it anew"
            )
        # They may lie elsewhere, but `verify.mend` refuses others than those of the run.
        moved = {"data": self.data, "weights": self.weights}
        places = {name: place for name, place in moved.items() if place}
        try:
            return open_job(
                job_of_request({**request, **places}, micro_batch=self.micro_batch)
            )
        except UnnamedCode:
            raise
        except InputError as error:
            raise InputError(
                f"the run cannot be opened again ({error}): give --data and --weights where they"
                " are now"
            ) from error


def _open(place: str) -> Store:
    if not place:
        raise InputError(
            "no run: give its folder or URL, for example mdm run status mdm-run"
        )
    return open_store(place)


def _left(rows: list[dict[str, Any]], summary: str, store: Store) -> Result:
    """The result of a repair, with what is faulty still."""
    left = len(verify.check(store))
    return Result(rows, f"{summary}, {_count_faults(left)} left", [], 3 if left else 0)


def _count_faults(count: int) -> str:
    return f"{count} fault" if count == 1 else f"{count} faults"
