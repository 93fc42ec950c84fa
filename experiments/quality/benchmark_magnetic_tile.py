r"""Every method on photographs of magnetic tiles, 160 px, with the exact pixels of each defect.

    python experiments/quality/benchmark_magnetic_tile.py --data folder:magnetic_tile \
        --models resnet=runs/resnet densenet=runs/densenet vit_tiny=runs/vit_tiny

The networks are those of `train_magnetic_tile.py`. A tile that is free of defects has no mask:
localization is measured on the others, faithfulness on all.

Results: `experiments/results/benchmark_magnetic_tile.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.quality.benchmark_networks import (
    FAITHFULNESS,
    SIMPLICITY,
    Config,
    main,
    parse,
)


@dataclass(frozen=True, kw_only=True)
class MagneticTile(Config):
    models: tuple[str, ...]
    """LABEL=FOLDER of each training"""
    data: str
    """folder:PATH"""
    split: str = "test"
    metrics: tuple[str, ...] = (
        *FAITHFULNESS,
        "energy:mask",
        "pointing:torchray-15",
        "pointing:exact",
        "pxap:wsol",
        *SIMPLICITY,
    )
    """names or ids; the data have masks and no boxes"""
    out: Path = Path("benchmark-magnetic-tile")
    results: str = "benchmark_magnetic_tile"


if __name__ == "__main__":
    sys.exit(main(parse(MagneticTile, __doc__)))
