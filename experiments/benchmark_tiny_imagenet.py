"""Every method on small natural images of 64 px with one box each, and networks of `train_tiny_imagenet.py`.

    python experiments/benchmark_tiny_imagenet.py --data folder:tiny_imagenet20 \
        --models resnet=runs/resnet densenet=runs/densenet vit=runs/vit

The folder holds val/<class>/ and boxes.csv (file,x_min,y_min,x_max,y_max); an image without a box counts for all metrics that
need none.

Measured with --limit 100 and the reduced networks (accuracy .696, .656, .664). Behind a value, against MDM, by the 95 %
interval of the paired difference: + better, - worse, = tied. F+B: evaluations with a gradient; F: forwards; s: seconds an
image on 2 busy CPU cores (jax 0.10.2). Pointing allows 15 px, a quarter of the image; a box covers half of it on average.

    resnet                         insertion  deletion    energy  pointing maxboxacc      pxap average_d   F+B     F      s
    mdm                               0.460     0.205     0.733     0.910     0.543     0.631     0.694     20     3   0.05
    gradient                          0.496+    0.159+    0.594-    0.920=    0.583=    0.596=    0.841-     1     3   0.01
    smoothgrad                        0.521+    0.137+    0.588-    0.880=    0.587+    0.612=    0.785-    50     3   0.08
    integrated_gradients              0.749+    0.059+    0.611-    0.900=    0.510-    0.551-    0.753=    50     3   0.07
    grad_cam                          0.389-    0.220=    0.564-    0.830-    0.560=    0.598=    0.495+     1     3   0.00
    layer_cam                         0.390-    0.218=    0.567-    0.850=    0.567=    0.581=    0.491+     1     3   0.00
    random                            0.406-    0.242=    0.502-    0.810-    0.577=    0.502-    0.573+     0     3   0.00
    centre                            0.398-    0.192=    0.636-    0.920=    0.590=    0.695+    0.599+     0     3   0.00
    n = 100

    densenet                       insertion  deletion    energy  pointing maxboxacc      pxap average_d   F+B     F      s
    mdm                               0.455     0.251     0.721     0.900     0.530     0.598     0.654     20     3   0.05
    gradient                          0.457=    0.230=    0.608-    0.920=    0.590+    0.644=    0.816-     1     3   0.01
    smoothgrad                        0.467=    0.216+    0.585-    0.880=    0.583+    0.619=    0.808-    50     3   0.09
    integrated_gradients              0.655+    0.103+    0.653-    0.910=    0.517=    0.578=    0.759-    50     3   0.09
    grad_cam                          0.429-    0.206+    0.571-    0.870=    0.550=    0.618=    0.403+     1     3   0.00
    layer_cam                         0.432-    0.205+    0.584-    0.870=    0.567+    0.643=    0.423+     1     3   0.00
    random                            0.392-    0.268=    0.502-    0.810-    0.577+    0.502-    0.540+     0     3   0.00
    centre                            0.424-    0.223+    0.636-    0.920=    0.590+    0.695+    0.587+     0     3   0.00
    n = 100

    vit                            insertion  deletion    energy  pointing maxboxacc      pxap average_d   F+B     F      s
    mdm                               0.470     0.260     0.735     0.920     0.530     0.657     0.693     20     3   0.08
    gradient                          0.496+    0.185+    0.604-    0.870=    0.563=    0.633=    0.831-     1     3   0.01
    smoothgrad                        0.526+    0.150+    0.604-    0.870=    0.557=    0.657=    0.766=    50     3   0.17
    integrated_gradients              0.728+    0.067+    0.640-    0.890=    0.520=    0.582-    0.695=    50     3   0.14
    grad_cam                          0.424-    0.227+    0.530-    0.810-    0.413-    0.581-    0.666=     1     3   0.01
    layer_cam                         0.444=    0.221+    0.674-    0.910=    0.513=    0.597-    0.805-     1     3   0.01
    random                            0.419-    0.224=    0.502-    0.810-    0.577+    0.502-    0.598=     0     3   0.01
    centre                            0.419-    0.229+    0.636-    0.920=    0.590+    0.695=    0.504+     0     3   0.01
    n = 100

What it says. MDM's maps lie on the object more than any other's, by energy, on all three networks. They lose insertion and
deletion, and clearly, to integrated gradients: on networks that are right two times in three, pixel-fine maps find patterns
that raise the class far above what the image itself gives, and MDM asks only that the image's own activation is kept. Boxes
are not told apart from a Gaussian in the centre.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmark_networks import Config, main, parsed


@dataclass(frozen=True, kw_only=True)
class TinyImageNet(Config):
    models: tuple[str, ...]
    """LABEL=FOLDER of each training"""
    data: str
    """folder:PATH"""
    split: str = "val"
    limit: int | None = 300
    out: Path = Path("benchmark-tiny-imagenet")


if __name__ == "__main__":
    sys.exit(main(parsed(TinyImageNet, __doc__)))
