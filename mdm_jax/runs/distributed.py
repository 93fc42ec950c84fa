"""Which share of a run this process does: given by hand, or by `jax.distributed` on a cluster."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from mdm_jax.errors import InputError, first_line
from mdm_jax.runs.locks import Share

CLUSTERS = "SLURM, Open MPI, Kubernetes and TPU pods"

# Seconds that the processes wait for each other at the start.
TIMEOUT_SECONDS = 300

# Seconds after which it is said that this process waits.
SILENT_SECONDS = 3


def parse_share(text: str) -> Share:
    """The share that "i/n" says, i from 0. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if not found or not int(found[1]) < int(found[2]):
        raise InputError(
            f"the shard is {text!r}: give i/n with i from 0 to n - 1, such as 0/4 for the first of"
            " four shares",
            setting="shard",
        )
    return int(found[1]), int(found[2])


def join_cluster(coordinator: str | None = None, share: Share | None = None) -> Share:
    """The share that the cluster gives this process.

    With a `coordinator` (host:port) it is the `share` that is given. The processes meet once, learn
    their numbers, and part: from then on each works alone, so any of them may die and its share be
    done later by the same call with that share. Raises InputError where no cluster is found or
    they do not meet."""
    process, count = share or (None, None)
    if coordinator is not None and share is None:
        raise InputError(
            "the coordinator needs a shard i/n: which of how many processes this is",
            setting="shard",
        )
    try:
        with _said("the other processes" if count is None else f"all {count} processes"):
            jax.distributed.initialize(
                coordinator, count, process, initialization_timeout=TIMEOUT_SECONDS
            )
            found = jax.process_index(), jax.process_count()
            jax.distributed.shutdown()
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise InputError(
            f"the processes did not find each other ({reason}): they do so by themselves on"
            f" {CLUSTERS}; elsewhere give a coordinator HOST:PORT and a shard i/n, or give each"
            " process a shard i/n alone"
        ) from error
    return found


@contextmanager
def _said(whom: str) -> Iterator[None]:
    """Inside, it is said that this process waits, once that takes longer."""
    sentence = f"waiting for {whom} to start, at most {TIMEOUT_SECONDS} s; Ctrl-C ends it"
    timer = threading.Timer(SILENT_SECONDS, warnings.warn, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
