"""Every method on cluttered digits, whose decisive pixels are known, with the embedded networks.

    python experiments/quality/benchmark_digits.py              # 500 items, all methods: hours
    python experiments/quality/benchmark_digits.py --models resnet --methods mdm gradient --limit 50

The same command again goes on where it was stopped. Tables and figures are written to
benchmark-digits/. `--limit` spreads the images evenly over the 10,000 test items.

Results: `experiments/results/benchmark_digits.json`, shown in `docs/measurements.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.quality.benchmark_networks import Config, main, parse


@dataclass(frozen=True, kw_only=True)
class Digits(Config):
    models: tuple[str, ...] = ("resnet", "densenet", "vit")
    data: str = "digits"
    split: str = "test"
    limit: int | None = 500
    out: Path = Path("benchmark-digits")
    results: str = "benchmark_digits"


if __name__ == "__main__":
    sys.exit(main(parse(Digits, __doc__)))
