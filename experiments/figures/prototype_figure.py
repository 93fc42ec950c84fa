"""The README's picture of a decision by prototypes: the embedded XProtoNet on a test digit.

python experiments/figures/prototype_figure.py              # half a minute on 2 CPU cores
python experiments/figures/prototype_figure.py --number 3 --out elsewhere.png
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from mdm_jax.cli.main import main


@dataclass(frozen=True)
class Config:
    """What is drawn."""

    model: str = "xprotonet"
    images: int = 12
    """test digits, spread evenly over the split"""
    number: int = 0
    """which of them, from 0"""
    top: int = 4
    """prototypes shown"""
    out: Path = Path(__file__).parents[2] / "docs" / "images" / "prototypes.png"


def draw(config: Config) -> int:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--images", str(config.images), "--top", str(config.top)]
        options += ["--regions", "mdm", "--nearest", "0", "--out", folder]
        code = main(["prototypes", config.model, *options])
        if code == 0:
            (figure,) = Path(folder, "figures").glob(f"{config.number:03d}-*.png")
            shutil.copyfile(figure, config.out)
    return code


if __name__ == "__main__":
    sys.exit(draw(tyro.cli(Config, description=__doc__)))
