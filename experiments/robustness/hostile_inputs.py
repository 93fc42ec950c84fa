"""Hostile files and names before the commands: is there a traceback, and is a file of a user lost?

    python experiments/robustness/hostile_inputs.py         # a minute

Every input is given to a command in this process, with a tiny network. A command may do its work or
end in one sentence (exit codes 0 to 4); an exception, or a sentence of several lines, counts as a
traceback. Then every command that writes a folder is pointed at folders that hold a user's own
files of the names that the command writes; what is gone or changed afterwards is lost. Names of
images are tried all together, as a folder that `mdm run`, `evaluate` and `report` go through.

Results: `experiments/results/hostile_inputs.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import struct
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tyro

from experiments.record_results import Value, write
from experiments.robustness.fuzz_readers import prepare
from mdm_jax.cli.main import main as mdm

Command = list[str | Path]

NETWORK = ["--weights", "networks/resnet"]
QUICK = ["--method", "center"]
NAMES = ["a|b", "tab\there", "line\nend", "\x1b[31mred", "=cmd|' 'A0", "€ Käfer", "<b>x<b>"]
NAMES += ["a" * 200, "-v", "'; drop", "\u202egnp", "..", "%00", "$(touch x)", "`x`"]
DEEP = "[" * 100_000


@dataclass(frozen=True)
class Config:
    """Where the figures go."""

    results: str = "hostile_inputs"
    """name of the file in experiments/results that is written; none when empty"""


def call(*arguments: str | Path) -> str:
    """How a command ends: "done", "refused", or a traceback."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = mdm([str(each) for each in arguments])
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {error}"[:200]
    said = [line for line in err.getvalue().splitlines() if line.startswith("mdm: ")]
    if code == 2 and len(said) != 1:
        return f"traceback: not one sentence: {err.getvalue()[:200]}"
    return "done" if code == 0 else "refused"


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG that says it is of this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        text = kind + body
        return struct.pack(">I", len(body)) + text + struct.pack(">I", zlib.crc32(text))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def lying_array() -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**11,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


def weights(kind: str) -> bytes:
    """A safetensors file of another number format, or of a header without end."""
    head = json.dumps({"a": {"dtype": kind, "shape": [8], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(8)


PHOTOGRAPHS: dict[str, bytes] = {
    "empty": b"",
    "text": b"no image",
    "of 10^9 pixels": png(40_000, 25_000, b"\0" * 100),
    "cut": png(64, 64, bytes(64 * 193))[:60],
    "of few rows": png(64, 64, bytes(10 * 193)),
    "of one pixel": png(1, 1, bytes(4)),
    "vector graphic": b"<svg onload='x()'/>",
}
MAPS = {
    "of 10^11": lying_array(),
    "empty": b"",
    "pickle": b"\x80\x04K\x01.",
    "text": b"1,2",
}
CONFIGS: dict[str, Any] = {
    "10^12 classes": {"num_classes": 10**12, "label_names": None},
    "2000 layers": {"model_args": {"depths": [2000] * 4}},
    "widths of 10^9": {"model_args": {"widths": [10**9] * 4}},
    "size of 10^9": {"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}},
    "code": {"architecture": "evil.py:network"},
}
RUNS: dict[str, Any] = {
    "10^18 images": {"layout": {"items": 10**18, "targets": 1, "chunk": 2}},
    "10^10 images": {"layout": {"items": 10**10, "targets": 1, "chunk": 1}},
    "chunks of 0": {"layout": {"items": 6, "targets": 1, "chunk": 0}},
    "a method that is code": {"request": {"method": "evil:m", "node": "evil.py:f"}},
    "classes of numbers": {"classes": [1, 2]},
    "another preprocessing": {"request": {"data": "digits", "preprocessing": {"size": 7}}},
    "half a request": {"request": {"data": "digits"}},
    "another format": {"format": 10**6},
}
TOMLS = {
    "nested": f"a = {DEEP}",
    "code": 'optimizer = "evil.py:f"',
    "of bytes": "steps = 1e999",
}


def try_inputs(root: Path) -> dict[str, str]:
    """How each hostile input ends, by what it is."""
    found: dict[str, str] = {}
    explain: Command = ["explain", *NETWORK, *QUICK, "--out", root / "out"]
    for name, data in PHOTOGRAPHS.items():
        (root / "hostile.png").write_bytes(data)
        found[f"photograph {name}"] = call(*explain, root / "hostile.png")
    for name, data in MAPS.items():
        (root / "maps.npy").write_bytes(data)
        command: Command = ["evaluate", root / "maps.npy", "--data", "digits", *NETWORK]
        found[f"maps {name}"] = call(*command, "--out", root / "scores")
    config = root / "networks/resnet/config.json"
    whole = config.read_text()
    for name, change in CONFIGS.items():
        config.write_text(json.dumps(json.loads(whole) | change))
        found[f"config.json of {name}"] = call(*explain, root / "photos/one.png")
    config.write_text(DEEP)
    found["config.json nested"] = call(*explain, root / "photos/one.png")
    config.write_text(whole)
    file = root / "networks/resnet/model.safetensors"
    kept = file.read_bytes()
    for name, data in {"in 8 bits": weights("F8_E4M3"), "of no end": b"\xff" * 64}.items():
        file.write_bytes(data)
        found[f"weights {name}"] = call(*explain, root / "photos/one.png")
    file.write_bytes(kept)
    for name, text in TOMLS.items():
        (root / "hostile.toml").write_text(text)
        command = [*explain, root / "photos/one.png", "--config", root / "hostile.toml"]
        found[f"settings {name}"] = call(*command)
        found[f"training {name}"] = call("train", root / "hostile.toml")
        found[f"sweep {name}"] = call("sweep", root / "hostile.toml")
    described = (root / "run/run.json").read_text()
    for name, edit in RUNS.items():
        (root / "run/run.json").write_text(json.dumps(json.loads(described) | edit))
        for verb in (["run", "status"], ["run", "verify"], ["evaluate"], ["report"]):
            out = ["--out", "page"] if verb[-1] in ("evaluate", "report") else []
            ended = call(*verb, root / "run", *out)
            found[f"run of {name}: {' '.join(verb)}"] = ended
    (root / "run/run.json").write_text(described)
    return found


def try_names(root: Path) -> dict[str, str]:
    """How the commands go through a folder of hostile names."""
    image = PIL.Image.open(root / "photos/one.png").convert("RGB")
    for number, name in enumerate(NAMES):
        folder = root / "names" / "test" / (f"{name}c" if number % 2 else f"c{name}")
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name[:100]}.png", "PNG")
    run: Command = ["run", "--data", "folder:names", *NETWORK, *QUICK, "--out", "named"]
    return {
        "names: run": call(*run),
        "names: report": call("report", root / "named", "--out", root / "named_page"),
        "names: verify": call("run", "verify", root / "named"),
        "names: evaluate": call("evaluate", root / "named", "--metrics", "sparseness"),
    }


# The files of a user, of names that commands write, before each command that writes a folder.
FOLDERS = ("images", "data", "figures", "assets", "records", "points", "regions/a")
SETTINGS = ("scores", "settings", "run", "train", "sweep", "benchmark", "results", "config")
OTHERS = ("index.html", "table.md", "model.safetensors", "one-class7.npz", "demo.png")
IN_FOLDERS = [f"{folder}/a.png" for folder in FOLDERS]
OWN = [*IN_FOLDERS, *(f"{name}.json" for name in SETTINGS), *OTHERS]

# Twice those that know a folder of another's by few files: the second time these are not there.
ATTEMPTS: tuple[str, ...] = (
    "explain",
    "run",
    "run",
    "report",
    "report",
    "evaluate",
    "evaluate",
)
ATTEMPTS += ("benchmark", "train", "sweep", "prototypes", "prototypes")


def writing(root: Path, out: Path) -> dict[str, Command]:
    """Commands that write into a folder."""
    digits = ["--data", "digits", "--limit", "2"]
    (root / "out.toml").write_text(f'out = "{out}"\nepochs = 1\n')
    (root / "sweep.toml").write_text("steps = [1, 2]\n")
    sets = ["--models", "a=networks/resnet", "--methods", "center"]
    return {
        "explain": ["explain", root / "photos/one.png", *NETWORK, *QUICK, "--out", out],
        "run": ["run", *digits, *NETWORK, *QUICK, "--out", out],
        "report": ["report", root / "run", "--out", out],
        "evaluate": ["evaluate", root / "run", "--metrics", "sparseness", "--out", out],
        "benchmark": ["benchmark", *sets, "--metrics", "sparseness", *digits, "--out", out],
        "train": ["train", root / "out.toml"],
        "sweep": ["sweep", root / "sweep.toml", *digits, *NETWORK, "--out", out],
        "prototypes": ["prototypes", "networks/protopnet", "--limit", "2", "--out", out],
    }


def try_overwriting(root: Path) -> dict[str, tuple[str, int]]:
    """How each command ends in a user's folder, and how many of the user's files are lost."""
    out = root / "own"
    found: dict[str, tuple[str, int]] = {}
    for number, verb in enumerate(ATTEMPTS):
        is_second = any(each.startswith(f"{verb} ") for each in found)
        own = IN_FOLDERS if is_second else OWN
        shutil.rmtree(out, ignore_errors=True)
        for name in own:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(f"of the user: {name}")
        ended = call(*writing(root, out)[verb])
        kept = [_is_as_it_was(out, name) for name in own]
        found[f"{verb} {number}"] = ended, kept.count(False)
    return found


def _is_as_it_was(out: Path, name: str) -> bool:
    return (out / name).is_file() and (out / name).read_text() == f"of the user: {name}"


def main(config: Config) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        with contextlib.chdir(root):
            inputs = try_inputs(root) | try_names(root)
            attempts = try_overwriting(root)
    values: list[Value] = [
        {"input": name, "outcome": ended, "value": 1} for name, ended in inputs.items()
    ]
    for name, (ended, lost) in attempts.items():
        values.append({"overwriting": name, "outcome": ended, "value": lost})
    for each in values:
        print(each)
    outcomes = [*inputs.values(), *(each for each, _ in attempts.values())]
    totals = {
        "hostile inputs": len(inputs),
        "tracebacks": sum(each.startswith("traceback") for each in outcomes),
        "attempts to overwrite": len(attempts),
        "files of the user lost": sum(lost for _, lost in attempts.values()),
    }
    print(totals)
    if config.results:
        counts = [{"quantity": name, "value": count} for name, count in totals.items()]
        write(config.results, [*counts, *values])


if __name__ == "__main__":
    main(tyro.cli(Config))
