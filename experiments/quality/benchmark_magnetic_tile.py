"""Every method on photographs of magnetic tiles, 160 px, with the exact pixels of each defect.

    python experiments/quality/benchmark_magnetic_tile.py --data folder:magnetic_tile \
        --models resnet=runs/resnet densenet=runs/densenet vit_tiny=runs/vit_tiny

The networks are those of `train_magnetic_tile.py`. A tile that is free of defects has no mask:
localization is measured on the others, faithfulness on all.

Measured with --limit 60 and the convolutional ResNet of 30 epochs (accuracy .585; right on 33 of
these 60); 33 tiles have a mask. Behind a value, against MDM, by the 95 % interval of the paired
difference: + better, - worse, = tied. F+B: evaluations with a gradient; F: forwards; s: seconds an
image on 2 busy CPU cores (jax 0.10.2).

    resnet                         insertion  deletion    energy  pointing      pxap average_d   F+B
    F      s
    mdm                               0.340     0.196     0.196     0.424     0.131     0.631     20
      3   0.27 gradient                          0.443+    0.172=    0.106-    0.242=    0.119=
      0.611=     1     3   0.02 smoothgrad                        0.460+    0.185=    0.096-
      0.394=    0.115=    0.398+    50     3   0.48 integrated_gradients              0.620+
      0.045+    0.110-    0.394=    0.118=    0.338+    50     3   0.43 grad_cam
      0.445+    0.180=    0.126-    0.121-    0.117=    0.520+     1     3   0.03 layer_cam
      0.401+    0.203=    0.112-    0.152-    0.136=    0.499+     1     3   0.02 random
      0.406+    0.196=    0.091-    0.061-    0.091-    0.676=     0     3   0.02 center
      0.380=    0.249-    0.084-    0.061-    0.084-    0.608=     0     3   0.01 n = 60

What it says. The defects are small (energy of the random map .09) and the network hardly knows
them: most maps, MDM's too, mark the borders of the tile. MDM is first in energy and tied in
pointing and PxAP; it loses insertion and deletion to integrated gradients, as on tiny_imagenet20. A
network that is trained further is needed before more can be said. """

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.quality.benchmark_networks import FAITHFULNESS, SIMPLICITY, Config, main, parsed


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


if __name__ == "__main__":
    sys.exit(main(parsed(MagneticTile, __doc__)))
