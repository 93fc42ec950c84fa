"""Who is at work on a run: shares of it, a process each, and the locks by which they know of each
other.

The locks are the operating system's, in the folder locks/: they end with their process, however it
ends, and know no clock. A bucket has none, and its user sees to it that no two processes do the
same share at once: both would write the same, but one that is killed while it writes what the other
has committed leaves a chunk that only `verify` finds."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.runs.key_value_store import KeyValueFolder, is_partial

# (index, count): which of how many processes that share a run.
Share = tuple[int, int]

# That a process waits for another's brief work: before it says so, and in all.
SILENT_SECONDS, EXCLUSIVE_SECONDS = 3, 60

SHARE_NAME = re.compile(r"share-(\d{1,9})-of-(\d{1,9})")


@dataclass
class SharedFolder(KeyValueFolder):
    """A folder or bucket in which several processes may be at work."""

    @contextmanager
    def locked(self, share: Share) -> Iterator[None]:
        """Keep a share of the run for this process alone; on a bucket, which has no locks, nothing.

        Raises InputError where another process has the share, or where a run of another number of
        processes is at work."""
        with ExitStack() as stack:
            if self.folder is not None:
                with self.exclusive(), self.writing():
                    if any(held == share or held[1] != share[1] for held in self._held()):
                        raise InputError(
                            f"another run is at work in {self.name}: wait for it, or choose another"
                            " folder",
                            setting="out",
                        )
                    lock = self._lock(f"share-{share[0]}-of-{share[1]}")
                    stack.enter_context(lock.acquire(timeout=0))
            yield

    def running(self) -> list[Share]:
        """The shares at which a process is at work.

        None for a bucket, or a folder in which this process may not write."""
        if self.folder is None or not (self.folder / "locks").is_dir():
            return []
        with suppress(InputError), self.exclusive(), self.writing():
            return self._held()
        return []

    def remove_partial_files(self) -> None:
        """Remove what a killed writer left half written. Call it under the lock of a share.

        While other shares are at work nothing is removed, as it may be theirs. That does no harm:
        readers pass over such files, and who writes there removes them."""
        if self.folder is None:
            return
        with self.exclusive(), self.writing():
            if len(self._held()) > 1:
                return
            # Listed before the first is removed: a walk must not lose its folder.
            for path in list(self.folder.rglob("*")):
                if is_partial(str(path.relative_to(self.folder))):
                    path.unlink(missing_ok=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep others out for what two processes must not do at once; brief."""
        with ExitStack() as stack:
            if self.folder is not None:
                with self.writing():
                    (self.folder / "locks").mkdir(parents=True, exist_ok=True)
                    stack.enter_context(self._wait_for("begin"))
            yield

    def _wait_for(self, name: str) -> filelock.AcquireReturnProxy:
        """A lock, taken. Raises InputError where another process keeps it for too long."""
        lock, place = self._lock(name), f"{self.name}/locks/{name}"
        try:
            return lock.acquire(timeout=SILENT_SECONDS)
        except filelock.Timeout:
            warnings.warn(f"waiting for another process, which holds {place}", stacklevel=2)
        try:
            return lock.acquire(timeout=EXCLUSIVE_SECONDS - SILENT_SECONDS)
        except filelock.Timeout:
            raise InputError(
                f"another process has held {place} for {EXCLUSIVE_SECONDS} s: wait until it ends,"
                " or end it"
            ) from None

    def log(self, share: Share) -> Callable[[str], None]:
        """A function that appends a line, with the time, to the share's log.

        What cannot be logged is left out."""
        folder, name = self.folder, f"log-{share[0]}-of-{share[1]}.txt"

        def write(line: str) -> None:
            if folder is None:
                return
            with suppress(OSError), (folder / name).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(line)}\n")

        return write

    def _held(self) -> list[Share]:
        """The shares whose lock is taken.

        It asks by trying, so only one process at a time may (`exclusive`)."""
        held = []
        for path in sorted((self.folder or Path()).glob("locks/share-*-of-*")):
            named = SHARE_NAME.fullmatch(path.name)
            if named is None or not path.is_file():
                continue
            index, count = map(int, named.groups())
            try:
                filelock.FileLock(path).acquire(timeout=0).lock.release()
            except filelock.Timeout:
                held.append((index, count))
        return held

    def _lock(self, name: str) -> filelock.BaseFileLock:
        return filelock.FileLock((self.folder or Path()) / "locks" / name)
