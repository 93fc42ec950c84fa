"""Real ImageNet networks, read through the public loader, know real photographs.

The stated top-1 accuracies were measured by others on the same files: 100 photographs, the first by
name, for the convolutional networks, all 300 for the Transformer.
"""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import images, load_model

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
PHOTOGRAPHS = SHARED / "data" / "imagenet_val300"
# Network: photographs, stated accuracy.
STATED = {
    "resnet18": (100, 0.78),
    "resnet50": (100, 0.83),
    "densenet169": (100, 0.69),
    "vit_tiny_patch16_224": (300, 0.847),
}
TOLERANCE = 0.015
# Published as codes of a compressed network, from which a script makes ordinary weights.
COMPRESSED = ("resnet18", "resnet50")

pytestmark = [
    pytest.mark.usefixtures("compiled_in_earnest"),
    pytest.mark.skipif(
        not (PHOTOGRAPHS.is_dir() and (SHARED / "weights" / "unpack.py").is_file()),
        reason="the real networks and photographs are not beside this checkout",
    ),
    pytest.mark.slow,
]


def weights_of(name, folder):
    """The folder of a network's config.json and model.safetensors."""
    if name not in COMPRESSED:
        return SHARED / "weights" / name
    unpack = SHARED / "weights" / "unpack.py"
    subprocess.run([sys.executable, unpack, name, folder], check=True, capture_output=True)
    return folder if (folder / "config.json").exists() else folder / name


@pytest.mark.parametrize("name", STATED)
def test_a_real_network_reaches_its_stated_accuracy(name, tmp_path):
    count, stated = STATED[name]
    truth = json.loads((PHOTOGRAPHS / "annotations.json").read_text())
    chosen = sorted(truth)[:count]
    classifier = load_model(weights=weights_of(name, tmp_path))
    assert "Egyptian cat" in classifier.class_names[285]
    predict = jax.jit(lambda network, x: jnp.argmax(network(x)[0], axis=-1))
    hits = 0
    for start in range(0, count, 50):
        names = chosen[start : start + 50]
        batch = [
            classifier.preprocess(images.read(PHOTOGRAPHS / "images" / file))
            for file in names
        ]
        labels = [truth[file]["label"] for file in names]
        hits += int(np.sum(np.asarray(predict(classifier, np.stack(batch))) == labels))
    assert hits / count == pytest.approx(stated, abs=TOLERANCE)
