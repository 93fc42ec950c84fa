"""The picture of `mdm explain`: two classes by three methods on one sheet.

    python experiments/figures/figure_explain.py                # a minute on 2 CPU cores

A digit of the test set is continued to both sides, so that the network sees the middle of it only.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from mdm_jax.cli.main import main
from mdm_jax.data import Digits
from mdm_jax.images import to_uint8
from mdm_jax.views.explanation_figures import save_png

METHODS = ("mdm", "hdm", "gradient")


@dataclass(frozen=True)
class Config:
    """What is explained, and where the sheet goes."""

    number: int = 0
    """of the digit, in the test set"""
    margin: int = 24
    """pixels added on both sides"""
    out: Path = Path(__file__).parents[2] / "docs" / "images" / "explain.png"


def draw(config: Config) -> int:
    """Write the sheet; the exit code of the command."""
    image = np.asarray(Digits("test")[config.number].image)
    sides = (config.margin, config.margin)
    wide = np.pad(image, ((0, 0), sides, (0, 0)), mode="reflect")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digit.png"
        save_png(to_uint8(wide), file)
        options = [word for method in METHODS for word in ("--method", method)]
        code = main(["explain", str(file), *options, "--top", "2", "--out", folder])
        if code == 0:
            shutil.copy(Path(folder) / "digit-sheet.png", config.out)
    return code


if __name__ == "__main__":
    sys.exit(draw(tyro.cli(Config, description=__doc__)))
