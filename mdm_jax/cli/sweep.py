"""The command that tries many settings of MDM: `mdm sweep`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from mdm_jax.cli.console import Report

SWEEP_HELP = """Try many settings of MDM on the same images, score them, and keep the best as a file for --config.

CONFIG is a TOML file: model, weights, data, split, limit, base (a preset), node, metrics; [axes] with the values of each
setting, or [[points]]; count to draw so many points at random; [quality] with the weight of each metric; tune_on, the share of
the images that chooses the winner, which is then reported on the others. Settings that differ in numbers alone share one
compiled program. OUT holds a table (table.md, .csv, .parquet), figures and winner.toml. Every finished point is kept: the same
command again goes on where it stopped, and more points cost only themselves.

Examples:
  mdm sweep sweep.toml
  mdm sweep sweep.toml --limit 32 --out runs/sweep
  mdm sweep sweep.toml --count 64 --seed 1 --json
  mdm explain photo.jpg --config mdm-sweep/winner.toml
"""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    config: tyro.conf.Positional[Path]
    """TOML file with the settings of SweepConfig"""
    out: Path | None = None
    """folder of the points, the tables and the figures, in place of the config's out"""
    limit: int | None = None
    """use only so many images, in place of the config's"""
    count: int | None = None
    """draw so many points at random from the axes, in place of the config's"""
    seed: int | None = None
    """seed of everything random, in place of the config's"""
    micro_batch: int | None = None
    """pairs of a setting and an image solved at a time; found from the memory when not given"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_sweep as commands
        from mdm_jax.config_files import load
        from mdm_jax.sweeps.config import SweepConfig

        given = {name: getattr(self, name) for name in ("limit", "count", "seed", "micro_batch")}
        given["out"] = None if self.out is None else str(self.out)
        report.show(commands.run_sweep(load(SweepConfig, self.config, given), report.progress))
