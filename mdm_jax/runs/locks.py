"""Who is at work on a run: shares of it, a process each, and the locks by which they know of each
other.

The locks are the operating system's, in the folder locks/: they end with their process, however it
ends, and know no clock. A bucket has none, and its user sees to it that no two processes do the
same share at once: both would write the same, but one that is killed while it writes what the other
has committed leaves a chunk that only `verify` finds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.runs.key_value_store import Place, is_half

Share = tuple[int, int]
"""(index, count): which of how many processes that share a run"""


@dataclass(frozen=True)
class Shared(Place):
    """A place at which several processes may be at work."""

    @contextmanager
    def locked(self, share: Share) -> Iterator[None]:
        """This share of the run for this process alone; on a bucket, which has no locks, nothing.

        Raises InputError where another process has the share, or where a run of another number of
        processes is at work."""
        with ExitStack() as stack:
            if self.folder is not None:
                with self.alone(), self.writing():
                    if any(held == share or held[1] != share[1] for held in self._held()):
                        raise InputError(
                            f"another run is at work in {self.name}: wait for it, or choose another"
                            " folder with --out"
                        )
                    stack.enter_context(
                        filelock.FileLock(self._lock(f"share-{share[0]}-of-{share[1]}")).acquire(
                            timeout=0
                        )
                    )
            yield

    def running(self) -> list[Share]:
        """The shares at which a process is at work; none for a bucket, or a folder in which this
        process may not write."""
        if self.folder is None or not (self.folder / "locks").is_dir():
            return []
        with suppress(InputError), self.alone(), self.writing():
            return self._held()
        return []

    def tidy(self) -> None:
        """Remove what a killed writer left half written, unless other shares are at work: it may be
        theirs.

        Call it under the lock. What it leaves does no harm: readers pass over it, and who writes
        there removes it."""
        if self.folder is None:
            return
        with self.alone(), self.writing():
            if len(self._held()) <= 1:
                for path in [
                    path
                    for path in self.folder.rglob("*")
                    if is_half(str(path.relative_to(self.folder)))
                ]:
                    path.unlink(missing_ok=True)

    def _held(self) -> list[Share]:
        """The shares whose lock is taken; asks by trying, so only one process at a time may
        (`alone`)."""
        held = []
        for path in sorted((self.folder or Path()).glob("locks/share-*-of-*")):
            index, count = map(int, re.findall(r"\d+", path.name))
            try:
                filelock.FileLock(path).acquire(timeout=0).lock.release()
            except filelock.Timeout:
                held.append((index, count))
        return held

    def _lock(self, name: str) -> Path:
        return (self.folder or Path()) / "locks" / name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what two processes must not do at once; brief."""
        with ExitStack() as stack:
            if self.folder is not None:
                with self.writing():
                    (self.folder / "locks").mkdir(parents=True, exist_ok=True)
                    stack.enter_context(filelock.FileLock(self._lock("begin")).acquire(timeout=60))
            yield

    def log(self, share: Share) -> Callable[[str], None]:
        """Appends lines, with the time, to the share's log; what cannot be logged is left out."""
        folder, name = self.folder, f"log-{share[0]}-of-{share[1]}.txt"

        def write(line: str) -> None:
            if folder is not None:
                with suppress(OSError), (folder / name).open("a", encoding="utf-8") as file:
                    file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(line)}\n")

        return write
