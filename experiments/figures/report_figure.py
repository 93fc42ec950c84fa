"""The README's picture of `mdm report`: MDM and Grad-CAM on digits side by side.

    python experiments/figures/report_figure.py                 # a minute on 2 CPU cores
    python experiments/figures/report_figure.py --out elsewhere.png

Photographed in headless Chromium, which must be on the path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from mdm_jax.cli.main import main

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Config:
    """What is photographed."""

    digits: int = 60
    size: tuple[int, int] = (1400, 660)
    """width and height of the window, pixels"""
    out: Path = Path(__file__).parents[2] / "docs" / "images" / "report.png"


def draw(config: Config) -> str:
    """Two runs, their report, and its picture; returns why not, or nothing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"no browser: install one of {', '.join(BROWSERS)}"
    with tempfile.TemporaryDirectory() as folder:
        runs = {method: str(Path(folder) / method) for method in ("mdm", "grad_cam")}
        report = Path(folder) / "report"
        for method, place in runs.items():
            options = ["--limit", str(config.digits), "--method", method, "--out", place]
            main(["run", "--data", "digits", *options])
        main(["report", *runs.values(), "--out", str(report)])
        window = ",".join(map(str, config.size))
        browser_options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ]
        # The page draws after it has loaded: wait for that, in the browser's own time.
        browser_options.append("--virtual-time-budget=6000")
        address = (report / "index.html").resolve().as_uri()
        command = [
            browser,
            *browser_options,
            f"--window-size={window}",
            f"--screenshot={config.out.resolve()}",
            address,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    return "" if config.out.exists() else done.stderr


if __name__ == "__main__":
    sys.exit(draw(tyro.cli(Config)) or 0)
