"""A stored run damaged in 22 ways: who finds it on reading, and what does `mdm run verify` mend?

    python experiments/robustness/damages.py        # a minute

Explains 6 digits with a tiny network, in chunks of 2, damages a copy in each way, and asks four
readers: `open_run` and all of its arrays, the maps as `mdm evaluate` reads them, `mdm report`, and
the check of `mdm run verify`. Found means InputError, or the sentence that rows are missing. A
reader that looks at other files than the damaged one (an evaluation at no names of classes) may
read what was committed, which counts as "right"; what counts as "wrong" is another value without
a word. Then `mdm run verify` mends the copy, which must be that of before byte by byte.

Results: `experiments/results/damages.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import mdm_jax
from experiments.record_results import ROOT, Value, write
from mdm_jax import InputError
from mdm_jax.cli.main import main as mdm
from mdm_jax.evaluation import saved_maps
from mdm_jax.runs import verify
from mdm_jax.runs.store import open_store

NETWORK = ROOT / "tests/fixtures/stored/networks/resnet"
COMMAND = ["run", "--data", "digits", "--limit", "6", "--chunk", "2", "--saliency"]
COMMAND += ["--preset", "fast-2026-11", "--weights", str(NETWORK)]
SETTINGS = "steps = 3\nsizes = [4, [8, 6]]\n"
ARRAY, OTHER = "mask_vectors/8x6/c/1/0/0", "mask_vectors/8x6/c/0/0/0"
RECORD, FIRST = "records/00001.parquet", "records/00000.parquet"
Harm = Callable[[Path], object]


@dataclass(frozen=True)
class Config:
    """Where the figures go."""

    results: str = "damages"
    """name of the file in experiments/results that is written; none when empty"""


def flip(file: str, at: float) -> Harm:
    """A bit of a file, at a share of its length."""

    def harm(run: Path) -> None:
        data = bytearray((run / file).read_bytes())
        data[int(at * (len(data) - 1))] ^= 1
        (run / file).write_bytes(data)

    return harm


def cut(file: str, share: float) -> Harm:
    """A file that ends early."""

    def harm(run: Path) -> None:
        data = (run / file).read_bytes()
        (run / file).write_bytes(data[: int(share * len(data))])

    return harm


def gone(file: str) -> Harm:
    return lambda run: (run / file).unlink()


def copied(source: str, target: str) -> Harm:
    return lambda run: shutil.copy(run / source, run / target)


def swapped(one: str, other: str) -> Harm:
    def harm(run: Path) -> None:
        first, second = (run / one).read_bytes(), (run / other).read_bytes()
        (run / one).write_bytes(second)
        (run / other).write_bytes(first)

    return harm


def edited(file: str, *keys: str, value: Any) -> Harm:
    """A value of a JSON file changed by hand."""

    def harm(run: Path) -> None:
        content = inner = json.loads((run / file).read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (run / file).write_text(json.dumps(content, indent=2) + "\n")

    return harm


def of_another_run(run: Path) -> None:
    shutil.copy(run.parent / "other" / RECORD, run / RECORD)


def renamed_column(run: Path) -> None:
    """The record's schema, whose bytes no checksum of Parquet guards."""
    data = (run / RECORD).read_bytes()
    (run / RECORD).write_bytes(data.replace(b"kept_area", b"kept_aria"))


def reordered(run: Path) -> None:
    content = json.loads((run / "zarr.json").read_text())
    listed = content["attributes"]["arrays"]
    content["attributes"]["arrays"] = dict(reversed(listed.items()))
    (run / "zarr.json").write_text(json.dumps(content))


DAMAGES: dict[str, Harm] = {
    "array: bit flipped": flip(ARRAY, 0.5),
    "array: cut": cut(ARRAY, 0.5),
    "array: gone": gone(ARRAY),
    "array: that of another chunk": copied(OTHER, ARRAY),
    "arrays of two chunks swapped": swapped(OTHER, ARRAY),
    "maps of two chunks swapped": swapped("saliency/c/0/0/0", "saliency/c/1/0/0"),
    "record: bit flipped": flip(RECORD, 0.1),
    "record: bit of its footer flipped": flip(RECORD, 0.95),
    "record: cut": cut(RECORD, 0.5),
    "record: empty": cut(RECORD, 0),
    "record: gone": gone(RECORD),
    "record: that of another chunk": copied(FIRST, RECORD),
    "records of two chunks swapped": swapped(FIRST, RECORD),
    "record: that of another run": of_another_run,
    "record: one too many": copied(RECORD, "records/00007.parquet"),
    "record: a column renamed": renamed_column,
    "list of arrays: gone": gone("zarr.json"),
    "list of arrays: reordered": reordered,
    "settings edited": edited("run.json", "settings", "stack_weights", value=[3.0, 1.0]),
    "layout edited": edited("run.json", "layout", "items", value=24),
    "classes edited": edited("run.json", "classes", value=list("jihgfedcba")),
    "run.json: cut": cut("run.json", 0.5),
}


def call(*arguments: str | Path) -> tuple[int, str]:
    """The exit code of a command, and what it says."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return mdm([str(each) for each in arguments]), out.getvalue()


def contents(run: Path) -> dict[str, bytes]:
    """The files of a run, but for log and locks."""
    paths = [path for path in sorted(run.rglob("*")) if path.is_file()]
    named = {path.relative_to(run).as_posix(): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in named.items()
        if not name.startswith(("log-", "locks/"))
    }


def opened(run: Path) -> Any:
    """Everything that a run holds."""
    found = mdm_jax.open_run(run)
    if found.incomplete:
        raise InputError(found.incomplete)
    vectors = [array[...] for array in found.mask_vectors]
    return found.classes, found.records.to_pylist(), vectors, found.saliency_of(range(6))


def evaluated(run: Path) -> Any:
    """The maps as `mdm evaluate` takes them."""
    found = saved_maps.read(run)
    if found.incomplete:
        raise InputError(found.incomplete)
    return found.saliency, found.targets, found.ids


def reported(run: Path) -> Any:
    """The page of `mdm report`; it says what is missing."""
    page = run.parent / "page"
    shutil.rmtree(page, ignore_errors=True)
    code, said = call("report", run, "--out", page)
    if code or "of the 6 rows" in said:
        raise InputError(said)
    data = (page / "data").rglob("*")
    return sorted(path.read_bytes() for path in data if path.is_file())


def verified(run: Path) -> Any:
    """What `mdm run verify` finds."""
    if faults := verify.check(open_store(run)):
        raise InputError(faults[0].sentence)


READERS = {
    "open_run": opened,
    "evaluate": evaluated,
    "report": reported,
    "verify": verified,
}


def outcome(read: Callable[[Path], Any], run: Path, before: Any) -> str:
    """ "found", "right" (the values that were committed), "wrong", or an error."""
    try:
        np.testing.assert_equal(read(run), before)
        return "right"
    except InputError:
        return "found"
    except AssertionError:
        return "wrong"
    except Exception as error:
        return f"traceback: {type(error).__name__}"


def main(config: Config) -> None:
    warnings.simplefilter("ignore")
    values: list[Value] = []
    counted = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "a.toml").write_text(SETTINGS)
        for name, seed in (("whole", 0), ("other", 1)):
            given: list[str | Path] = ["--config", place / "a.toml", "--seed", str(seed)]
            assert call(*COMMAND, *given, "--out", place / name)[0] == 0
        run, whole = place / "run", contents(place / "whole")
        shutil.copytree(place / "whole", run)
        before = {name: read(run) for name, read in READERS.items()}
        for damage, harm in DAMAGES.items():
            shutil.rmtree(run)
            shutil.copytree(place / "whole", run)
            harm(run)
            found = {
                name: outcome(read, run, before[name]) for name, read in READERS.items()
            }
            is_mended = call("run", "verify", run)[0] == 0 and contents(run) == whole
            found["mended"] = "equal" if is_mended else "not equal"
            print(f"{damage}: {found}")
            counted["found by verify"] += found["verify"] == "found"
            counted["found on reading"] += found["open_run"] == "found"
            counted["read wrong"] += "wrong" in found.values()
            counted["tracebacks"] += any("traceback" in each for each in found.values())
            counted["mended byte by byte"] += is_mended
            for name, what in found.items():
                values.append(
                    {"damage": damage, "reader": name, "outcome": what, "value": 1}
                )
    print(f"of {len(DAMAGES)}: {dict(counted)}")
    if config.results:
        totals = [{"quantity": name, "value": count} for name, count in counted.items()]
        write(
            config.results,
            [{"quantity": "damages", "value": len(DAMAGES)}, *totals, *values],
        )


if __name__ == "__main__":
    main(tyro.cli(Config))
