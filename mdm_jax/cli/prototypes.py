"""The command that shows prototypes: `mdm prototypes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from mdm_jax.cli.console import Report
from mdm_jax.cli.options import Options
from mdm_jax.config import PRESETS, MDMConfig
from mdm_jax.config_files import build
from mdm_jax.errors import unknown

PROTOTYPES_HELP = """What the prototypes of a ProtoPNet or XProtoNet are, where they lie in images, and how they decide.

Each prototype is shown in the training image that it comes from and in those most like it; for test images, "this looks like
that": similarity x weight = points, which add up to the logit. OUT holds a page that opens in any browser (index.html), a
figure for each test image, prototypes.json, prototypes.parquet and every region as an array. The same command again computes
only what is missing; more images, regions or nearest images cost only themselves.

Examples:
  mdm prototypes protopnet
  mdm prototypes runs/birds --data folder:birds --images 40 --out runs/birds-prototypes
  mdm prototypes runs/birds --regions mdm activation_map --nearest 0
  mdm prototypes runs/xrays --data folder:xrays --preset paper --top 3
"""


@dataclass(frozen=True, kw_only=True)
class Prototypes(Options):
    model: tyro.conf.Positional[str]
    """the network: folder of a training, hub id, or an embedded one by name (protopnet,
    xprotonet)"""
    data: str | None = None
    """source of the images, such as digits, folder:PATH or tfds:NAME; that of the training when not
    given"""
    train_split: str | None = None
    """split that the prototypes come from; that of the training when not given"""
    split: str = "test"
    """split of the images that are reasoned about"""
    images: int = 12
    """images that are reasoned about, spread evenly over their split"""
    top: int = 5
    """prototypes in the reasoning about an image; all others are one row"""
    nearest: int = 3
    """training images most like each prototype; 0 searches none"""
    limit: int | None = 5000
    """training images among which they are searched, spread evenly over the split"""
    regions: tuple[str, ...] = ()
    """how regions are found, such as mdm activation_map receptive_field grad_cam; all that suit the
    network when not given. Figures take the first"""
    share: float = 0.1
    """share of an image that lies within the outline of a region"""
    image_size: int | None = None
    """side of the network's input in pixels, in place of its config's"""
    dtype: str = "float32"
    """what the network computes in: float32 or bfloat16"""
    preset: str = "node"
    """settings of MDM: node (those for prototypes), fast or paper"""
    out: Path = Path("mdm-prototypes")
    """folder of the results"""

    def mdm_config(self) -> MDMConfig:
        from mdm_jax.prototypes.regions import NODE_MDM

        presets = {"node": NODE_MDM} | PRESETS
        if self.preset not in presets:
            raise unknown("preset", self.preset, presets)
        return build(MDMConfig, self.settings(), base=presets[self.preset])

    def run(self, report: Report) -> None:
        from mdm_jax.cli import commands_prototypes as commands

        names = (
            "model",
            "data",
            "train_split",
            "split",
            "images",
            "top",
            "nearest",
            "limit",
            "share",
            "image_size",
            "dtype",
        )
        given = {name: getattr(self, name) for name in names}
        request = commands.Request(
            **given,
            regions=self.regions,
            mdm=self.mdm_config(),
            seed=self.seed,
            micro_batch=self.micro_batch,
            out=self.out,
        )
        report.show(commands.prototypes(request, report.progress))
