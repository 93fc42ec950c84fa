"""What a part of the accelerator check leaves behind: values, cases, and the file that holds them.

Needs nothing but the standard library: every part imports it, and the process that starts them."""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = dict[str, Any]
"""`quantity`, `value`, perhaps `low` and `high`, and what else says what was measured"""

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory")


class Skipped(Exception):
    """A part that cannot be measured here; the text is the reason."""


@dataclass
class Clock:
    """The time of one part, and its cases that were not measured."""

    deadline: float
    """`time.time()` at which the part should have ended"""
    missed: dict[str, str] = field(default_factory=dict)
    """cases without values, and why"""
    failures: list[str] = field(default_factory=list)
    """of them, those that broke"""
    current: str = ""
    """the case that is being measured"""
    longest: float = 0.0
    """seconds of the longest case so far"""
    changed: Callable[[], None] = lambda: None
    """called when another case begins"""

    def has_time(self, case: str, seconds: float = 0.0) -> bool:
        """Whether a case of so many seconds, or as long as the longest so far, would still end in
        time; else it is missed."""
        if time.time() + max(seconds, self.longest) < self.deadline:
            return True
        self.missed[case] = "no time left"
        return False

    @contextmanager
    def case(self, case: str) -> Iterator[None]:
        """Measure one case; if it breaks or does not fit in memory, the others still go on."""
        start, self.current = time.time(), case
        self.changed()
        try:
            yield
        except Exception as error:
            reason = one_line(error)
            if any(text in str(error) for text in OUT_OF_MEMORY):
                self.missed[case] = f"out of memory: {reason}"
                return
            traceback.print_exc()
            self.missed[case] = reason
            self.failures.append(case)
        finally:
            self.longest = max(self.longest, time.time() - start)
            self.current = ""


def one_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"[:200]


def measured(quantity: str, samples: float | Iterable[float], **what: Any) -> Value:
    """A value; of several samples their median with its 95 % interval."""
    if not isinstance(samples, Iterable):
        return what | {"quantity": quantity, "value": float(samples)}
    ordered = sorted(float(sample) for sample in samples)
    low, high = median_interval(ordered)
    middle = statistics.median(ordered)
    return what | {"quantity": quantity, "value": middle, "low": low, "high": high}


def median_interval(ordered: list[float]) -> tuple[float, float]:
    """A 95 % interval of the median from the ranks of sorted samples (binomial); of fewer than six
    samples their range, which covers less."""
    n, total, rank = len(ordered), 0.0, 0
    for k in range(n):
        total += math.comb(n, k) / 2**n
        if total > 0.025:
            rank = k
            break
    return ordered[max(rank - 1, 0)], ordered[min(n - rank, n - 1)]


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, so that a kill leaves the old or the new one."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


@dataclass
class Report:
    """The file that a part keeps up to date, value by value, while it is measured."""

    path: Path
    clock: Clock
    status: str = "running"
    """running, done, partial, skipped or failed"""
    reason: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    """device, processor and versions"""
    values: list[Value] = field(default_factory=list)

    def write(self) -> None:
        content = {
            "status": self.status,
            "reason": self.reason,
            "case": self.clock.current,
            "about": self.about,
            "missed": self.clock.missed,
            "values": self.values,
        }
        write_whole(self.path, json.dumps(content))

    def fill(self, values: Iterator[Value], about: Callable[[], Mapping[str, Any]]) -> None:
        """Take all values of a part; whatever it raises is written down."""
        self.clock.changed = self.write
        try:
            for value in values:
                if not self.about:
                    self.about = dict(about())
                self.values.append(value)
                self.write()
                print(f"  {describe(value)}", file=sys.stderr, flush=True)
            self._end()
        except Skipped as error:
            self.status, self.reason = "skipped", str(error)
        except Exception as error:
            traceback.print_exc()
            self.status, self.reason = "failed", one_line(error)
        self.about = self.about or dict(about())
        self.write()

    def _end(self) -> None:
        broken = self.clock.failures
        self.status = "failed" if broken else "partial" if self.clock.missed else "done"
        if broken:
            self.reason = f"{broken[0]}: {self.clock.missed[broken[0]]}"


def describe(value: Mapping[str, Any]) -> str:
    """A value as one line for the terminal."""
    numbers = ("value", "low", "high")
    what = ", ".join(str(item) for key, item in value.items() if key not in numbers)
    return f"{what}: {value['value']:.4g}"
