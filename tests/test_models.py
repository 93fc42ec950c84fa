"""Networks and weights: shapes, names, round trips, and the embedded network's accuracy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from mdm_jax import InputError
from mdm_jax.data import Digits
from mdm_jax.models import weights
from mdm_jax.models.pretrained import EMBEDDED_FOLDER, load_model
from mdm_jax.models.resnet import ResNet


def build():
    return ResNet(num_classes=3, widths=(4, 8), depths=(1, 2), rngs=nnx.Rngs(1))


@pytest.fixture
def folder(tmp_path):
    """A model folder as `load_model` takes it."""
    weights.save(build(), tmp_path / "model.safetensors")
    config = {
        "architecture": "resnet",
        "num_classes": 3,
        "model_args": {"widths": [4, 8], "depths": [1, 2]},
        "pretrained_cfg": {
            "input_size": [3, 32, 48],
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.2],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_resnet_names_every_stage():
    logits, out = nnx.view(build(), use_running_average=True)(jnp.zeros((2, 32, 32, 3)))
    shapes = {name: value.shape for name, value in out.items()}
    assert logits.shape == (2, 3)
    assert shapes == {"stem": (2, 32, 32, 4), "layer1": (2, 32, 32, 4), "layer2": (2, 16, 16, 8), "features": (2, 8)}


def test_weights_carry_timm_names_and_torch_layout(folder):
    arrays = load_file(folder / "model.safetensors")
    assert arrays["conv1.weight"].shape == (4, 3, 3, 3)
    assert arrays["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert arrays["layer2.1.bn2.running_var"].shape == (8,)
    assert arrays["fc.weight"].shape == (3, 8)


def test_round_trip(folder):
    classifier = load_model(folder)
    images = jax.random.uniform(jax.random.key(0), (2, 32, 48, 3))
    expected, _ = nnx.view(build(), use_running_average=True)((images - jnp.array([0.5, 0.4, 0.3])) / 0.2)
    np.testing.assert_allclose(classifier(images)[0], expected, atol=1e-5)
    assert classifier.class_names == ("0", "1", "2")
    assert classifier.preprocessing.size == (32, 48)
    np.testing.assert_array_equal(load_model(folder / "model.safetensors")(images)[0], classifier(images)[0])


def rewrite(folder, change):
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fc.bias"), "lack 'fc.bias'"),
        (lambda a: a.update(extra=np.zeros(1, np.float32)), "hold 'extra', unknown"),
        (lambda a: a.update({"fc.bias": np.zeros(4, np.float32)}), "'fc.bias' has shape"),
        (lambda a: a.update({"fc.bias": np.full(3, np.nan, np.float32)}), "'fc.bias' holds NaN"),
    ],
)
def test_wrong_weights_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_batch_counters_of_torch_are_ignored(folder):
    rewrite(folder, lambda a: a.update({"bn1.num_batches_tracked": np.zeros((), np.int64)}))
    load_model(folder)


def test_unusable_files(folder, tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="is a pickle"):
        load_model(tmp_path / "weights.pth")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_model(folder)


def test_unusable_config(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("resnet", "resnett"))
    with pytest.raises(InputError, match="did you mean 'resnet'"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        load_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="holds no JSON object"):
        load_model(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="architecture"):
        load_model(folder)
    (folder / "config.json").write_text('{"architecture": "resnet", "num_classes": 3}')
    with pytest.raises(InputError, match="lacks 'pretrained_cfg'"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"need a config\.json beside them"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": "ten"}, "does not describe a resnet"),
        ({"architecture": ["x"]}, "unknown architecture"),
        ({"model_args": {"foo": 1}}, "does not describe a resnet"),
        ({"label_names": ["a"]}, "1 label_names for 3 classes"),
        ({"pretrained_cfg": []}, "does not describe a resnet"),
        ({"pretrained_cfg": {"input_size": [3, 64]}}, "does not describe a resnet"),
        ({"pretrained_cfg": {}}, "lacks 'input_size'"),
        ({"crop_pct": 0}, "cannot be"),
        ({"std": [0, 0, 0]}, "cannot be"),
        ({"interpolation": "random"}, "unknown interpolation"),
        ({"input_size": [3, -1, 32]}, "cannot be"),
    ],
)
def test_configs_of_any_form(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    for name, value in change.items():
        (config["pretrained_cfg"] if name in config["pretrained_cfg"] else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_model(folder)


def test_embedded_network_reads_1000_test_digits():
    classifier, source = load_model(), Digits("test")
    predict = jax.jit(lambda network, images: jnp.argmax(network(images)[0], axis=-1))
    hits = 0
    for start in range(0, 1000, 250):
        examples = [source[i] for i in range(start, start + 250)]
        chosen = predict(classifier, np.stack([example.image for example in examples]))
        hits += int(np.sum(np.asarray(chosen) == [example.label for example in examples]))
    assert hits >= 950


def test_embedded_weights_are_small():
    assert (EMBEDDED_FOLDER / "model.safetensors").stat().st_size <= 2_000_000
