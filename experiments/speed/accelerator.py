r"""What an accelerator makes of MDM: speed, memory, agreement and peers, in eight minutes.

    python experiments/speed/accelerator.py                 # one large GPU, 16 CPU cores
    python experiments/speed/accelerator.py --parts a b     # some parts; others keep their values
    python experiments/speed/accelerator.py --tiny          # rehearses on a CPU, publishes nothing

Parts: (a) evaluations per second and the share of the card's measured bfloat16 peak; (b) an MDM
step / a bare gradient; (c) images per second of `explain` and `mdm run`; (d) memory; (e) agreement
of maps between CPU and device, float32 and bfloat16; (f) the same networks in torch; (g) other
methods in torch and here. ResNet-50, DenseNet-169 and ViT-B with random weights: nothing is loaded
from anywhere.

Each part is a process of its own, started when the one before has ended: it has the device's memory
to itself, and a compiler that hangs is killed without loss. That costs the start of Python and JAX
per part (3 to 4 s on two cores); all share one cache of compiled programs. A part gets its share of
the time that is left and skips cases that would not end in time. Its values are written as it ends.
What is not installed is said at the start; parts that need it are skipped. Ends with 1 when a part
failed or was killed.

A checkout without git needs `--commit`. Results: `experiments/results/accelerator.json`, shown in
`README.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import record_results  # noqa: E402
from experiments.speed.accelerator_parts import parts as catalog  # noqa: E402
from experiments.speed.accelerator_parts.parts import Part  # noqa: E402
from experiments.speed.accelerator_parts.record import write_whole  # noqa: E402
from experiments.speed.accelerator_parts.settings import Settings, tiny  # noqa: E402

SOFT = 0.85
"""share of its limit after which a part begins no other case; at the limit it is killed"""
FIRST_MINUTES = 8.0


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        default=list(catalog.PARTS),
        help="letters or names of parts; by default all",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="tiny networks, any device; 3 minutes"
    )
    parser.add_argument("--minutes", type=float, help="of all parts together (8)")
    parser.add_argument(
        "--results",
        help="name of the file in experiments/results (accelerator); none when empty, or tiny",
    )
    parser.add_argument("--out", type=Path, help="write to this file instead")
    parser.add_argument("--commit", help="commit of a checkout without git")
    asked = parser.parse_args(given)
    try:
        asked.parts = catalog.chosen(asked.parts)
    except KeyError as error:
        parser.error(
            f"there is no part {error}: take a to g, or of {', '.join(catalog.PARTS)}"
        )
    if asked.minutes is None:
        asked.minutes = 3.0 if asked.tiny else FIRST_MINUTES
    if asked.out is None:
        name = asked.results
        if name is None:
            name = "" if asked.tiny else "accelerator"
        if name:
            asked.out = record_results.RESULTS / f"{name}.json"
        else:
            asked.out = Path(tempfile.mkdtemp(prefix="accelerator-")) / "accelerator.json"
    return asked


def main(given: Sequence[str] | None = None) -> int:
    asked = arguments(given)
    parts: Mapping[str, Part] = asked.parts
    settings = tiny() if asked.tiny else Settings()
    run_of = {
        "commit": asked.commit or commit(),
        "date": date.today().isoformat(),
        "command": record_results.command_line(),
    }
    say_what_lacks(parts)
    if not run_of["commit"]:
        say("the commit is not known here: give it with --commit")
    return measure(parts, settings, 60 * asked.minutes, asked.out, run_of)


def say_what_lacks(parts: Mapping[str, Part]) -> None:
    needed = {package for part in parts.values() for package in part.needs}
    found = catalog.lacking(sorted(needed | set(catalog.OPTIONAL)))
    say(f"not installed: {', '.join(found) or 'nothing'}")
    for name, part in parts.items():
        if part.lacking():
            say(f"  {name} will be skipped")


def commit() -> str:
    try:
        return record_results.commit()
    except FileNotFoundError:
        return ""


def measure(
    parts: Mapping[str, Part],
    settings: Settings,
    seconds: float,
    out: Path,
    run_of: Mapping[str, str],
) -> int:
    """Measure parts one after the other, each merged into the file as it ends; the exit code."""
    end = time.monotonic() + seconds
    content: dict[str, Any] = {"parts": {}, "values": []}
    if out.exists():
        content = json.loads(out.read_text())
    waiting, broken = dict(parts), []
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            left = sum(each.seconds for each in waiting.values())
            limit = max(1.0, (end - time.monotonic()) * part.seconds / left)
            del waiting[name]
            say(f"({part.letter}) {name}, at most {limit:.0f} s")
            begun = time.monotonic()
            found = run_part(name, part, settings, limit, Path(folder))
            found["seconds"] = round(time.monotonic() - begun, 1)
            ended = f"{found['status']} {found['reason']}".rstrip()
            say(f"({part.letter}) {name}: {ended}, {found['seconds']} s")
            for case, reason in found["missed"].items():
                say(f"  not measured: {case} ({reason})")
            merge(content, name, found, run_of)
            write_whole(out, record_results.to_json(content))
            if found["status"] == "failed":
                broken.append(f"{name} ({found['reason']})")
    say(f"wrote {out.name}: {out}" if out.parent != record_results.RESULTS else wrote(out))
    for problem in catalog.problems(content):
        say(problem)
        broken.append(problem)
    if broken:
        say(f"{len(broken)} of {len(parts)} parts failed: {'; '.join(broken)}")
    return 1 if broken else 0


def wrote(out: Path) -> str:
    return f"wrote experiments/results/{out.name}; `make tables` brings it into the pages"


def run_part(
    name: str, part: Part, settings: Settings, limit: float, folder: Path
) -> dict[str, Any]:
    """What a part's own process reported; it is killed at its limit, with all that it started."""
    if part.lacking():
        return ended("skipped", f"needs {', '.join(part.lacking())}")
    report = folder / f"{name}.json"
    command = [
        *(sys.executable, "-m", "experiments.speed.accelerator_parts.child", part.function),
        *("--settings", settings.to_json(), "--report", str(report)),
        *("--deadline", str(time.time() + SOFT * limit)),
    ]
    with child(command, folder, settings.tiny) as process:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            kill(process)
    return outcome(report, process.returncode, limit)


def outcome(report: Path, code: int, limit: float) -> dict[str, Any]:
    """The report of a process that ended with a code, or was killed."""
    if not report.exists():
        return ended("failed", f"ended with {code} before it measured anything")
    found = json.loads(report.read_text())
    if found["status"] == "running":
        where = f" in {found['case']}" if found["case"] else ""
        killed = code == -signal.SIGKILL
        how = f"killed after {limit:.0f} s" if killed else f"ended with {code}"
        found |= {"status": "failed", "reason": how + where}
    return found


def ended(status: str, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": reason, "about": {}, "missed": {}, "values": []}


@contextlib.contextmanager
def child(
    command: Sequence[str], folder: Path, is_tiny: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which does not outlive this one's end by an exception."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if is_tiny:
        environment.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def merge(
    content: dict[str, Any], name: str, found: Mapping[str, Any], run_of: Mapping[str, str]
) -> None:
    """Put a part's values into the file's content, in place of its former ones.

    A part that was not measured leaves values that an earlier run measured as they are."""
    about = found["about"]
    content |= run_of
    device = about.get("device") or content.get("machine", {}).get("device", "unknown")
    content["machine"] = {
        "cores": os.cpu_count(),
        "processor": record_results.processor(),
        "device": device,
    }
    content["versions"] = content.get("versions", {}) | about.get("versions", {})
    content.setdefault("note", "")
    stored = any(value["part"] == name for value in content["values"])
    if stored and not found["values"]:
        say(f"  {name} keeps the values of {content['parts'][name]['date']}")
        return
    state = {key: found[key] for key in ("status", "reason", "seconds", "missed")}
    content["parts"][name] = (
        state | dict(run_of) | {"device": device, "versions": about.get("versions", {})}
    )
    others = [value for value in content["values"] if value["part"] != name]
    new = [record_results.finite({"part": name} | dict(value)) for value in found["values"]]
    content["values"] = others + new


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
