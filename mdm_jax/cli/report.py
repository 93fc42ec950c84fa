"""The command that shows runs: `mdm report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from mdm_jax.cli.console import Report

REPORT_HELP = """A page of a run, or of several side by side on the same images, that opens in any browser without a server.

It shows every image with its map (overlay, masked, each mask on its own), sorts and filters, and draws distributions. OUT is a
folder that can be moved or put on a web server; it loads nothing from elsewhere. An unfinished run is shown as far as it is.

Examples:
  mdm report runs/photos
  mdm report runs/mdm runs/grad_cam --out compared
  mdm report runs/photos --data folder:elsewhere/photos --limit 500
"""


@dataclass(frozen=True, kw_only=True)
class ReportRuns:
    runs: tyro.conf.Positional[tuple[str, ...]]
    """folders or URLs of runs"""
    out: Path = Path("mdm-report")
    """folder of the page; a report that lies there is replaced"""
    data: str | None = None
    """where the images are now, in place of what the runs say: folder:PATH, files:PATH, tfds:NAME
    or any other source"""
    split: str | None = None
    """split of the data, in place of what the runs say"""
    limit: int | None = None
    """show only so many images, spread evenly over the runs"""
    json: bool = False
    """print JSON to standard output instead of a table"""

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_report as commands

        report.show(
            commands.report(self.runs, self.out, self.data, self.split, self.limit, report.progress)
        )
