r"""Every method on small natural images of 64 px with one box each.

    python experiments/quality/benchmark_tiny_imagenet.py --data folder:tiny_imagenet20 \
        --models resnet=runs/resnet densenet=runs/densenet vit=runs/vit

The networks are those of `train_tiny_imagenet.py`. The folder holds val/<class>/ and boxes.csv
(file,x_min,y_min,x_max,y_max); an image without a box counts for all metrics that need none.

Results: `experiments/results/benchmark_tiny_imagenet.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.quality.benchmark_networks import Config, main, parse


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Config):
    models: tuple[str, ...]
    """LABEL=FOLDER of each training"""
    data: str
    """folder:PATH"""
    split: str = "val"
    limit: int | None = 300
    out: Path = Path("benchmark-tiny-imagenet")
    results: str = "benchmark_tiny_imagenet"


if __name__ == "__main__":
    sys.exit(main(parse(TinyImageNet, __doc__)))
