"""The command line, one program `mdm`: what each command takes, and errors as one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from mdm_jax.cli import explain
from mdm_jax.cli.console import Report
from mdm_jax.cli.evaluate import BENCHMARK_HELP, EVALUATE_HELP, Benchmark, Evaluate
from mdm_jax.cli.options import Options
from mdm_jax.cli.prototypes import PROTOTYPES_HELP, Prototypes
from mdm_jax.cli.report import REPORT_HELP, ReportRuns
from mdm_jax.cli.run import RUN_HELP, STATUS_HELP, VERIFY_HELP, Run, RunStatus, RunVerify
from mdm_jax.cli.sweep import SWEEP_HELP, Sweep
from mdm_jax.errors import InputError, unknown
from mdm_jax.models.pretrained import load_model
from mdm_jax.progress import task

DEMO_HELP = """Explain digits of the embedded test set with the embedded network, whose decisive pixels are known.

Examples:
  mdm demo
  mdm demo --model vit
  mdm demo --count 32 --out figures
  mdm demo --preset paper --json
"""
EXPLAIN_HELP = """Explain image files: an overlay, the learned masks and an .npz with everything for each.

Examples:
  mdm explain photo.jpg --model resnet50 --weights timm/resnet50.tv_in1k
  mdm explain photo.jpg --model resnet50 --method rise:samples=1000
  mdm explain photos/*.png --model vit_base_patch16_224 --top 3 --out maps
  mdm explain scan.png --weights my_network/ --target 7 --config my_mdm.toml
  mdm explain scan.png --model densenet121 --weights old_densenet121.safetensors
  mdm explain digit.png --method 'mdm:fill=my_fills.py:checkerboard' --node my_nodes.py:margin
"""
TRAIN_HELP = """Train a classifier as a TOML file describes; the same command again goes on where it stopped.

Examples:
  mdm train digits.toml
  mdm train digits.toml --out runs/seed1 --seed 1
  mdm train photos.toml --data folder:photos --epochs 30
"""


@dataclass(frozen=True, kw_only=True)
class Demo(Options):
    model: str = "resnet"
    """the embedded network: resnet, densenet or vit"""
    count: int = 16
    """test digits to explain"""
    out: Path = Path("mdm-demo")
    """folder for the figure, the animation and the results"""

    def run(self, report: Report) -> None:
        config = self.mdm_config()
        with task(report.progress, "explaining digits", self.count) as advance:
            result = explain.demo(
                config, self.count, self.seed, self.micro_batch, self.out, advance, model=self.model
            )
        report.show(result)


@dataclass(frozen=True, kw_only=True)
class Explain(Options):
    files: tyro.conf.Positional[tuple[Path, ...]]
    """image files: JPEG, PNG, WebP, TIFF, GIF ..."""
    model: str | None = None
    """network by name, such as resnet50, densenet121, vit_base_patch16_224 or
    deit_small_patch16_224; by its weights alone when not given; without either the embedded digits
    network"""
    weights: str | None = None
    """hub id, folder with config.json and model.safetensors, safetensors file, or folder of a
    training; the usual ones of the model when not given"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: str = "float32"
    """what the network computes in: float32 or bfloat16; masks are float32 always"""
    target: int | None = None
    """class to explain; the network's first choice when not given"""
    top: int = 1
    """explain the K most likely classes of each image"""
    method: str = "mdm"
    """what explains: mdm, with --preset and --config, another method with its settings, such as
    rise:samples=1000, or a function of yours, such as my_methods.py:inverse"""
    node: str | None = None
    """what is explained: probability, logit, log_odds, sigmoid (multi-label), logits (all classes),
    or a function of yours, such as my_nodes.py:margin; by default what the authors of the method
    explain, for mdm the probability, which must stay the same"""
    out: Path = Path("mdm-explain")
    """folder for the results"""

    def run(self, report: Report) -> None:
        if not self.files:
            raise InputError("no image files: give one or more, for example mdm explain photo.jpg")
        load = partial(
            load_model,
            self.model,
            weights=self.weights,
            image_size=self.image_size,
            dtype=self.dtype,
        )
        method = self.chosen(self.method)
        request = explain.Request(
            self.files, load, self.target, self.top, self.node, self.out, method.name
        )
        with task(report.progress, "explaining", len(self.files) * self.top) as advance:
            result = explain.explain_files(
                request, method.config, self.seed, self.micro_batch, advance
            )
        report.show(result)


@dataclass(frozen=True, kw_only=True)
class Train:
    config: tyro.conf.Positional[Path]
    """TOML file with the settings of TrainConfig"""
    out: Path | None = None
    """folder of the run, in place of the config's out"""
    data: str | None = None
    """source of images, in place of the config's: digits, folder:PATH, tfds:NAME, cub:PATH,
    chestxray14:PATH, or cropped: and one with boxes"""
    epochs: int | None = None
    """passes over the images, in place of the config's"""
    seed: int | None = None
    """seed of everything random, in place of the config's"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.config_files import load
        from mdm_jax.training.config import TrainConfig

        given = {
            "out": None if self.out is None else str(self.out),
            "epochs": self.epochs,
            "seed": self.seed,
        }
        report.show(
            explain.train(load(TrainConfig, self.config, given | {"data.source": self.data}))
        )


COMMANDS: dict[str, tuple[type, str]] = {
    "demo": (Demo, DEMO_HELP),
    "explain": (Explain, EXPLAIN_HELP),
    "evaluate": (Evaluate, EVALUATE_HELP),
    "benchmark": (Benchmark, BENCHMARK_HELP),
    "train": (Train, TRAIN_HELP),
    "run": (Run, RUN_HELP),
    "run-status": (RunStatus, STATUS_HELP),
    "run-verify": (RunVerify, VERIFY_HELP),
    "report": (ReportRuns, REPORT_HELP),
    "prototypes": (Prototypes, PROTOTYPES_HELP),
    "sweep": (Sweep, SWEEP_HELP),
}
WRITTEN_APART: dict[tuple[str, ...], str] = {
    ("run", "status"): "run-status",
    ("run", "verify"): "run-verify",
}
"""commands of two words; a run of options alone is `run`"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for input that cannot be used, 3 for images
    that could not be explained where that is asked for (`mdm run --strict`), 130 when interrupted,
    1 when nobody reads the output any more."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"mdm: {message}", file=sys.stderr)
    try:
        command = _parse(arguments)
        code = command.run(Report(command.json))
        sys.stdout.flush()
    except InputError as error:
        print(f"mdm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"mdm: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except (
        BrokenPipeError
    ):  # who reads the output, such as head, has gone; Python must not write there when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code or 0


def _parse(arguments: Sequence[str]) -> Any:
    if name := WRITTEN_APART.get(tuple(arguments[:2])):
        arguments = [name, *arguments[2:]]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise unknown("command", arguments[0], COMMANDS)
    types = tuple(
        Annotated[kind, tyro.conf.subcommand(name, description=text)]
        for name, (kind, text) in COMMANDS.items()
    )
    union: Any = types[0]
    for each in types[1:]:
        union = union | each
    command, rest = tyro.cli(
        union,
        prog="mdm",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
        return_unknown_args=True,
    )
    if rest:
        options = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(command)]
        near = difflib.get_close_matches(rest[0], options, n=1)
        hint = f"did you mean {near[0]}?" if near else "see --help"
        raise InputError(
            f"unknown {'option' if rest[0].startswith('-') else 'argument'} {rest[0]}: {hint}"
        )
    return command


if __name__ == "__main__":
    sys.exit(main())
