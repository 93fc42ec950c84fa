"""Reading ahead in threads or processes by grain: in order, bounded, and nothing left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import absl.flags
import grain
import jax
import numpy as np

from mdm_jax.errors import InputError

Element = TypeVar("Element")


def read_ahead(
    elements: grain.MapDataset, *, threads: int, buffer: int, workers: int = 0, died: str
) -> Generator[Any, None, None]:
    """The elements, pytrees of arrays, in order, at most `buffer` of them ahead.

    They are read by `threads` of this process, or of each of `workers` processes; for each of these
    2 more wait there and 2 here. Threads and processes end with the iterator. A process that dies
    is an InputError, which says `died`."""
    reading_options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    dataset = elements.to_iter_dataset(reading_options)
    if workers:
        # grain's processes take over absl's flags, which nothing here uses.
        if not absl.flags.FLAGS.is_parsed():
            absl.flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_in_worker)
    iterator = iter(dataset)
    end = ExitStack()  # ends once, whoever asks first
    end.callback(partial(_close_processes, iterator) if workers else iterator.close)
    reading = _until_closed(
        _from_processes(iterator, died) if workers else iterator, end.close
    )
    # Also at the end of the program, before modules are torn down.
    weakref.finalize(reading, end.close)
    return reading


def _until_closed(
    elements: Iterable[Any], close: Callable[[], None]
) -> Generator[Any, None, None]:
    try:
        yield from elements
    finally:
        close()


def _from_processes(iterator: grain.DatasetIterator, died: str) -> Iterator[Any]:
    """The elements; one of the processes that died is an InputError."""
    try:
        with (
            _ctrl_c_blocked()
        ):  # the first element starts the processes, which inherit that
            first = next(iterator, None)
        if first is not None:
            first = _copy(first)  # in place, so that nothing here keeps the shared memory
            yield first
            yield from map(_copy, iterator)
    except RuntimeError as error:
        if not str(error).startswith("Worker process was terminated"):
            raise
        raise InputError(died) from error


def _close_processes(iterator: grain.DatasetIterator) -> None:
    iterator.close()
    # grain leaves its last elements in cycles, whose shared memory would outlive the program. A
    # thread of grain's frees it; of what is left at the end of the program Python would warn.
    gc.collect()
    time.sleep(0.05)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """In this thread and in processes that it starts, where the system can.

    Other threads hear of Ctrl-C all the same."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started later it would take the block away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_worker(index: int, count: int) -> None:
    """Ctrl-C is for the parent to handle; a worker ends with its parent, even a killed one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # at once: other threads may hang in a pipe that nobody reads

    threading.Thread(target=end_with_parent, daemon=True).start()


def _copy(element: Element) -> Element:
    """A copy, so that memory shared with a process is freed at once, whoever keeps the element."""

    def copy_array(leaf: Any) -> Any:
        return np.array(leaf) if isinstance(leaf, np.ndarray) else leaf

    return jax.tree.map(copy_array, element)
