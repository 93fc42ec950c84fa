"""Loading: every place that weights may lie at, every name they may carry, and one sentence for
what cannot be loaded."""

import json
import os
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from mdm_jax import InputError, load_model
from mdm_jax.data import Digits
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.models import weights
from mdm_jax.models.architectures import (
    CLASSIFIERS,
    FAMILIES,
    STANDARD,
    build,
    build_shapes,
    resolve,
)
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.models.pretrained import EMBEDDED
from mdm_jax.models.transfer import initialize_from
from mdm_jax.models.vit import interpolate
from mdm_jax.models.weight_names import timm_name
from mdm_jax.storage import checkpoints
from mdm_jax.storage.differences import differences

PRETRAINED = {
    "input_size": [3, 32, 48],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
}
CONFIG = {
    "architecture": "resnet",
    "num_classes": 3,
    "model_args": {"widths": [4, 8], "depths": [1, 2]},
    "pretrained_cfg": PRETRAINED,
}


def tiny_resnet():
    return build(
        "resnet",
        num_classes=3,
        size=(32, 48),
        widths=(4, 8),
        depths=(1, 2),
        rngs=nnx.Rngs(1),
    )


def random_arrays(architecture, *, classes, size, seed=0, **arguments):
    """Arrays for a network without initializing it: numpy noise in its shapes."""
    network = build_shapes(architecture, num_classes=classes, size=size, **arguments)
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, (path, leaf) in weights.places(network).items():
        shape = weights.torch_shape(leaf.shape, path[-1])
        noise = rng.standard_normal(shape).astype(np.float32)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            arrays[name] = 1 + 0.1 * np.abs(noise)
        else:
            arrays[name] = noise / max(1.0, np.sqrt(np.prod(shape[1:])))
    return arrays


@pytest.fixture
def folder(tmp_path):
    """A model folder as `load_model` takes it."""
    weights.save(tiny_resnet(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, without network; returns a function that puts a repository into
    it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repository, files):
        return put_on_hub(tmp_path / "hub", repository, files)

    return put


def put_on_hub(cache, repository, files):
    """What the hub's client leaves in its cache after a download."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    for name, content in files.items():
        if isinstance(content, dict) and name.endswith(".safetensors"):
            save_file(content, snapshot / name)
        else:
            (snapshot / name).write_text(json.dumps(content))


def inference(network):
    return nnx.view(
        network, deterministic=True, use_running_average=True, raise_if_not_found=False
    )


@pytest.mark.slow
def test_a_folder_gives_the_network_its_preprocessing_and_its_intermediates(folder):
    classifier = load_model(weights=folder)
    images = jax.random.uniform(jax.random.key(0), (2, 32, 48, 3))
    expected, _ = inference(tiny_resnet())((images - jnp.array([0.5, 0.4, 0.3])) / 0.2)
    logits, out = classifier(images)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert {"stem", "layer1", "layer2", "features"} == out.keys()
    assert classifier.class_names == ("0", "1", "2")
    assert classifier.preprocessing.size == (32, 48)
    for same in (
        load_model(folder),
        load_model(str(folder)),
        load_model(weights=folder / "model.safetensors"),
    ):
        np.testing.assert_array_equal(same(images)[0], logits)
    unfolded = load_model(weights=folder, fold=False)(images)[0]
    np.testing.assert_allclose(unfolded, logits, atol=1e-5)


def test_weights_carry_timm_names_and_torch_layout(folder):
    arrays = load_file(folder / "model.safetensors")
    assert arrays["conv1.weight"].shape == (4, 3, 3, 3)
    assert arrays["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert arrays["layer2.1.bn2.running_var"].shape == (8,)
    assert arrays["fc.weight"].shape == (3, 8)


@pytest.mark.slow
def test_half_precision_computes_in_bfloat16_and_answers_in_float32(folder):
    images = jax.random.uniform(jax.random.key(0), (2, 32, 48, 3))
    logits, out = load_model(weights=folder, dtype="bfloat16")(images)
    assert (logits.dtype, out["layer1"].dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(logits, load_model(weights=folder)(images)[0], atol=0.05)
    with pytest.raises(InputError, match="unknown dtype 'float16'"):
        load_model(weights=folder, dtype="float16")


@pytest.mark.slow
def test_a_run_that_has_not_ended_gives_its_newest_checkpoint(folder):
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    checkpoints.save(
        folder / "checkpoints",
        3,
        {"model": {name: 0 * array for name, array in arrays.items()}},
    )
    checkpoints.save(folder / "checkpoints", 7, {"model": arrays})
    images = jax.random.uniform(jax.random.key(0), (2, 32, 48, 3))
    for place in (folder, folder / "checkpoints"):
        assert np.abs(load_model(weights=place)(images)[0]).max() > 0
    other = build(
        "resnet", num_classes=2, size=(32, 48), widths=(4,), depths=(1,), rngs=nnx.Rngs(1)
    )
    weights.save(other, folder / "checkpoints" / "model.safetensors")
    described = CONFIG | {"num_classes": 2, "model_args": {"widths": [4], "depths": [1]}}
    (folder / "checkpoints" / "config.json").write_text(json.dumps(described))
    assert len(load_model(folder / "checkpoints").class_names) == 2, (
        "a model folder may be called checkpoints"
    )


def test_a_densenet_refuses_images_that_shrink_to_nothing(tmp_path):
    arguments = {"growth": 4, "initial": 8, "blocks": [1, 1, 1], "stem": "imagenet"}
    save_file(
        random_arrays("densenet", classes=3, size=(32, 32), **arguments),
        tmp_path / "model.safetensors",
    )
    config = CONFIG | {"architecture": "densenet", "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_model(tmp_path)
    with pytest.raises(InputError, match="too small for this network"):
        load_model(tmp_path, image_size=8)


def rewrite(folder, change):
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fc.bias"), "lack 'fc.bias'"),
        (lambda a: a.update(extra=np.zeros(1, np.float32)), "hold 'extra', unknown"),
        (
            lambda a: a.update({"conv1.0.weight": a.pop("conv1.weight")}),
            "lack 'conv1.weight' .* hold 'conv1.0.weight'",
        ),
        (
            lambda a: a.update({"fc.bias": np.zeros(4, np.float32)}),
            r"'fc.bias' has shape \(4,\), this network needs \(3,\)",
        ),
        (
            lambda a: a.update({"fc.weight": np.zeros((8, 3), np.float32)}),
            r"shape \(8, 3\), this network needs \(3, 8\)",
        ),
        (
            lambda a: a.update({"fc.bias": np.full(3, np.nan, np.float32)}),
            "'fc.bias' holds NaN",
        ),
        (lambda a: a.update({"module.fc.bias": a["fc.bias"]}), "hold 'fc.bias' twice"),
        (
            lambda a: a.update({"fc.bias": np.zeros(3, np.int8)}),
            "'fc.bias' is int8: quantized",
        ),
    ],
)
def test_wrong_weights_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(InputError, match=message):
        load_model(weights=folder)


@pytest.mark.slow
def test_batch_counters_and_other_precisions_are_understood(folder):
    expected = load_model(weights=folder)(jnp.full((1, 32, 48, 3), 0.4))[0]
    rewrite(folder, lambda a: a.update({"bn1.num_batches_tracked": np.zeros((), np.int64)}))
    rewrite(
        folder, lambda a: a.update({"conv1.weight": a["conv1.weight"].astype(np.float16)})
    )
    np.testing.assert_allclose(
        load_model(weights=folder)(jnp.full((1, 32, 48, 3), 0.4))[0], expected, atol=1e-2
    )


@pytest.mark.parametrize(
    ("name", "timm"),
    [
        (
            "features.denseblock1.denselayer2.norm.1.running_mean",
            "features.denseblock1.denselayer2.norm1.running_mean",
        ),
        (
            "features.denseblock1.denselayer2.conv.2.weight",
            "features.denseblock1.denselayer2.conv2.weight",
        ),
        ("features.transition1.norm.weight", "features.transition1.norm.weight"),
        (
            "features.denseblock1.denselayer2.norm1.bias",
            "features.denseblock1.denselayer2.norm1.bias",
        ),
        ("module.features.norm5.bias", "features.norm5.bias"),
        ("layer1.0.downsample.1.bias", "layer1.0.downsample.1.bias"),
        (
            "encoder.layers.encoder_layer_11.self_attention.in_proj_weight",
            "blocks.11.attn.qkv.weight",
        ),
        ("encoder.layers.encoder_layer_0.mlp.3.bias", "blocks.0.mlp.fc2.bias"),
        ("encoder.layers.encoder_layer_0.ln_1.bias", "blocks.0.norm1.bias"),
        ("heads.head.weight", "head.weight"),
    ],
)
def test_names_of_others(name, timm):
    assert timm_name(name) == timm


@pytest.mark.slow
def test_an_old_densenet_without_config(tmp_path):
    arrays = random_arrays("densenet121", classes=7, size=(224, 224))
    old = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2."): array
        for name, array in arrays.items()
    }
    old = {
        name.replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): array
        for name, array in old.items()
    }
    assert old.keys() != arrays.keys()
    save_file(old, tmp_path / "densenet121-a639ec97.safetensors")
    classifier = load_model(
        "densenet121", weights=tmp_path / "densenet121-a639ec97.safetensors"
    )
    assert len(classifier.class_names) == 7
    given = classifier.preprocessing
    assert (given.size, given.crop, given.interpolation) == ((224, 224), 0.875, "bicubic")
    assert given.mean == (0.485, 0.456, 0.406)
    with pytest.raises(
        InputError, match=r"has no config\.json beside it: name the network"
    ):
        load_model(weights=tmp_path / "densenet121-a639ec97.safetensors")
    with pytest.raises(InputError, match=r"lack conv1\.weight"):
        load_model("resnet50", weights=tmp_path / "densenet121-a639ec97.safetensors")


@pytest.mark.slow
def test_a_transformer_at_another_size(tmp_path):
    arrays = random_arrays("vit", classes=3, size=(32, 32), width=16, depth=1, heads=2)
    save_file(arrays, tmp_path / "model.safetensors")
    config = CONFIG | {
        "architecture": "vit",
        "model_args": {"width": 16, "depth": 1, "heads": 2},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(weights=tmp_path)(jnp.zeros((1, 32, 48, 3)))[1]["norm"].shape == (
        1,
        25,
        16,
    )
    larger = load_model(weights=tmp_path, image_size=64)
    assert larger.preprocessing.size == (64, 64)
    assert larger.preprocessing.fit(PIL.Image.new("RGB", (90, 80))).shape == (64, 64, 3)
    with pytest.raises(InputError, match="no multiple of the patch of 8"):
        load_model(weights=tmp_path, image_size=60)
    for size in (2, 100_000, "64", 64.0, (64,), (64, 64, 3)):
        with pytest.raises(InputError, match=r"an input size of .* cannot be"):
            larger.preprocessing.resized(size)
    assert larger.preprocessing.resized((np.int64(32), 64)).size == (32, 64)
    (tmp_path / "config.json").write_text(json.dumps(config | {"global_pool": "avg"}))
    with pytest.raises(InputError, match="global_pool 'avg' is not supported"):
        load_model(weights=tmp_path)


@pytest.mark.slow
def test_one_id_from_the_cache_of_the_hub(hub):
    arrays = random_arrays("resnet18", classes=1000, size=(224, 224))
    config = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "pretrained_cfg": PRETRAINED | {"input_size": [3, 64, 64]},
    }
    hub("timm/resnet18.tv_in1k", {"config.json": config, "model.safetensors": arrays})
    by_id = load_model("timm/resnet18.tv_in1k")
    assert by_id.name == "timm/resnet18.tv_in1k"
    assert by_id.class_names[:2] == ("tench", "goldfish")
    images = jnp.full((1, 64, 64, 3), 0.3)
    logits = jax.jit(lambda network, x: network(x)[0])
    expected = logits(by_id, images)
    for same in (
        load_model("resnet18"),
        load_model("resnet18.tv_in1k"),
        load_model("resnet18", weights="timm/resnet18.tv_in1k"),
        load_model(weights="hf-hub:timm/resnet18.tv_in1k"),
    ):
        np.testing.assert_array_equal(logits(same, images), expected)
    with pytest.raises(
        InputError, match="are of resnet18, not of resnet50: name that one, or none"
    ):
        load_model("resnet50", weights="timm/resnet18.tv_in1k")


def test_a_network_by_name_wins_over_a_file_of_that_name(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet34").mkdir()
    with pytest.raises(InputError, match=r"timm/resnet34\.tv_in1k is no folder here"):
        load_model("resnet34")
    with pytest.raises(InputError, match=r"resnet34 holds no model\.safetensors"):
        load_model("./resnet34")


def test_a_hub_out_of_reach_is_found_out_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    start = time.perf_counter()
    with pytest.raises(InputError, match="cannot be reached"):
        load_model("timm/resnet50.tv_in1k")
    assert time.perf_counter() - start < 10
    assert capfd.readouterr().err == ""


def test_revisions_are_part_of_the_name(hub):
    hub(
        "me/net",
        {"config.json": CONFIG, "model.safetensors": weights.entries(tiny_resnet())},
    )
    assert load_model("me/net").name == "me/net"
    assert load_model("me/net@main").name == "me/net@main"
    assert load_model(weights="me/net/").name == "me/net"


def test_some_published_networks_have_no_usual_weights():
    for name in ("vit_tiny_patch32_224", "vit_large_patch32_224", "deit_small_patch16_384"):
        with pytest.raises(
            InputError, match="has no usual weights: say where its weights are"
        ):
            load_model(name)


@pytest.mark.slow
def test_preprocessing_of_bare_files_follows_name_and_origin(tmp_path):
    arrays = random_arrays("vit_tiny_patch16_384", classes=3, size=(384, 384))
    save_file(arrays, tmp_path / "timm.safetensors")
    given = load_model(
        "vit_tiny_patch16_384", weights=tmp_path / "timm.safetensors"
    ).preprocessing
    assert (given.size, given.crop, given.mean) == ((384, 384), 1.0, (0.5, 0.5, 0.5))
    arrays["module.class_token"] = arrays.pop("cls_token")
    save_file(arrays, tmp_path / "torchvision.safetensors")
    given = load_model(
        "vit_tiny_patch16_384", weights=tmp_path / "torchvision.safetensors"
    ).preprocessing
    assert (given.crop, given.interpolation, given.mean) == (
        0.875,
        "bilinear",
        (0.485, 0.456, 0.406),
    )


def test_images_that_are_no_floats_are_refused_and_others_answered_in_float32(folder):
    classifier = load_model(weights=folder)
    with pytest.raises(InputError, match="images are uint8: give floats"):
        classifier(np.zeros((1, 32, 48, 3), np.uint8))
    images = np.full((1, 32, 48, 3), 0.25, np.float32)
    assert (
        classifier(images)[0].dtype
        == classifier(jnp.asarray(images, jnp.bfloat16))[0].dtype
        == jnp.float32
    )


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("densenet161", "timm/densenet161.tv_in1k"),
        ("vit_base_patch16", "timm/vit_base_patch16_224.augreg_in21k_ft_in1k"),
        ("vit_large_patch16_224", "timm/vit_large_patch16_224.augreg_in21k_ft_in1k"),
        (
            "deit_small_distilled_patch16_224",
            "timm/deit_small_distilled_patch16_224.fb_in1k",
        ),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
    ],
)
def test_without_network_the_sentence_names_the_repository(hub, name, repository):
    with pytest.raises(
        InputError,
        match=(
            f"{repository} is no folder here, is not in the local cache of the hub, and the hub"
            " cannot"
        ),
    ):
        load_model(name)


def test_unusable_places(folder, tmp_path, hub):
    for place in (tmp_path / "nowhere", "a/b/c", "nothing.safetensors", "x" * 5000):
        with pytest.raises(InputError, match="no weights at"):
            load_model(weights=place)
        with pytest.raises(InputError, match=r"no weights at|unknown architecture"):
            load_model(place)
    with pytest.raises(InputError, match="is neither a folder here nor a hub id"):
        load_model(weights="a--b/c")
    for name in ("weights.PTH", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"\x80\x04")
        with pytest.raises(InputError, match="is a pickle, which can run code"):
            load_model(weights=tmp_path / name)
    (tmp_path / "only").mkdir()
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_model(weights=tmp_path / "only")
    shutil.copy(tmp_path / "pytorch_model.bin", tmp_path / "only")
    with pytest.raises(InputError, match=r"holds pytorch_model\.bin, a pickle"):
        load_model(weights=tmp_path / "only")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_model(weights=folder)
    for name in ("resnet50d", "resnet50d.ra2_in1k", "nothing"):
        with pytest.raises(InputError, match="unknown architecture"):
            load_model(name)


def test_unusable_config(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("resnet", "resnett"))
    with pytest.raises(
        InputError, match="unknown architecture 'resnett': did you mean 'resnet'"
    ):
        load_model(weights=folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        load_model(weights=folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="holds no JSON object"):
        load_model(weights=folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="architecture"):
        load_model(weights=folder)
    (folder / "config.json").write_text('{"architecture": "resnet", "num_classes": 3}')
    with pytest.raises(InputError, match="lacks 'pretrained_cfg'"):
        load_model(weights=folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"need a config\.json beside them"):
        load_model(weights=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": "ten"}, "num_classes is 'ten': give a whole number up to"),
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
        ({"num_classes": 0}, "has no classifier"),
        ({"model_args": {"num_classes": 3}}, "does not describe a resnet"),
        ({"global_pool": "max"}, "global_pool 'max' is not supported, only 'avg'"),
        ({"mean": [0.5, 0.5, float("nan")]}, "cannot be"),
        (
            {"pretrained_cfg": PRETRAINED | {"crop_mode": "border"}},
            "crop_mode 'border' in the config is not supported",
        ),
    ],
)
def test_configs_of_any_form(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    for name, value in change.items():
        (config["pretrained_cfg"] if name in config["pretrained_cfg"] else config)[name] = (
            value
        )
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_model(weights=folder)


BEYOND = {
    "classes": ({"num_classes": 10**12}, "num_classes is 1000000000000: give a whole"),
    "no classes": ({"num_classes": -3}, "num_classes is -3: give a whole number"),
    "depths": ({"model_args": {"depths": [2000] * 4}}, "at most 400 layers in all"),
    "stages": ({"model_args": {"depths": [1] * 10**6}}, "at most 400 layers in all"),
    "depth": (
        {"architecture": "vit", "model_args": {"depth": 10**9}},
        "depth is 1000000000: give at most 400 layers",
    ),
    "widths": ({"model_args": {"widths": [10**9] * 4}}, "give numbers up to 1000000"),
    "infinite": ({"model_args": {"widths": [float("nan")]}}, "give numbers up to 1000000"),
    "backbone": (
        {
            "architecture": "protopnet",
            "model_args": {"backbone_arguments": {"depths": [500]}},
        },
        "at most 400 layers in all",
    ),
    "prototypes": (
        {"architecture": "protopnet", "model_args": {"prototypes_per_class": 10**7}},
        "prototypes_per_class is 10000000: give numbers up to 1000000",
    ),
    "prototypes of classes": (
        {
            "architecture": "protopnet",
            "label_names": None,
            "num_classes": 10**5,
            "model_args": {"backbone_arguments": {"widths": (4, 8), "depths": (1, 2)}},
        },
        "1000000 prototypes of 100000 classes are too many",
    ),
    "size": ({"input_size": [3, 10**9, 10**9]}, "cannot be"),
}


@pytest.mark.parametrize("case", BEYOND)
def test_numbers_beyond_all_bounds_are_refused_at_once(folder, case):
    change, message = BEYOND[case]
    start = time.perf_counter()
    test_configs_of_any_form(folder, change, message)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"])
def test_formats_that_are_not_read(tmp_path, kind):
    size = 4 if kind == "F4" else 8
    entry = {"dtype": kind, "shape": [8], "data_offsets": [0, size]}
    head = json.dumps({"a": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(size))
    with pytest.raises(
        InputError, match=r"format that cannot be read .*to float32"
    ) as error:
        weights.read(path)
    assert "\n" not in str(error.value)


def test_descriptions_name_the_classes(folder):
    named = CONFIG | {
        "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n1": "tench", "n3": "shark"},
    }
    (folder / "config.json").write_text(json.dumps(named))
    assert load_model(weights=folder).class_names == ("tench", "n2", "shark")


@pytest.mark.slow
def test_starting_from_another_number_of_classes(folder):
    arrays = load_file(folder / "model.safetensors")
    fresh = build(
        "resnet",
        num_classes=5,
        size=(32, 48),
        widths=(4, 8),
        depths=(1, 2),
        rngs=nnx.Rngs(9),
    )
    started = weights.entries(initialize_from(fresh, folder))
    np.testing.assert_array_equal(started["conv1.weight"], arrays["conv1.weight"])
    np.testing.assert_array_equal(started["fc.weight"], weights.entries(fresh)["fc.weight"])
    other = build(
        "resnet",
        num_classes=5,
        size=(32, 48),
        widths=(4, 16),
        depths=(1, 2),
        rngs=nnx.Rngs(9),
    )
    with pytest.raises(InputError, match="this network needs"):
        initialize_from(other, folder)


@pytest.mark.slow
def test_starting_from_another_input_size(tmp_path):
    arguments = {"width": 16, "depth": 1, "heads": 2}
    save_file(
        random_arrays("vit", classes=3, size=(32, 32), **arguments),
        tmp_path / "small.safetensors",
    )
    fresh = build("vit", num_classes=3, size=(64, 32), rngs=nnx.Rngs(0), **arguments)
    started = initialize_from(fresh, tmp_path / "small.safetensors")
    expected = interpolate(
        jnp.asarray(load_file(tmp_path / "small.safetensors")["pos_embed"]),
        1,
        (4, 4),
        (8, 4),
    )
    np.testing.assert_allclose(started.pos_embed[...], expected, atol=1e-6)


@pytest.mark.slow
def test_resnet50_loads_within_three_seconds(tmp_path):
    save_file(
        random_arrays("resnet50", classes=1000, size=(224, 224)),
        tmp_path / "resnet50.safetensors",
    )
    start = time.process_time()  # of this process alone: other tests run beside it
    classifier = load_model("resnet50", weights=tmp_path / "resnet50.safetensors")
    jax.block_until_ready(jax.tree.leaves(classifier))
    assert time.process_time() - start <= 3.0


@pytest.mark.slow
def test_the_documented_command_explains_a_photograph_offline(tmp_path):
    arrays = random_arrays("resnet50", classes=1000, size=(224, 224))
    config = {
        "architecture": "resnet50",
        "num_classes": 1000,
        "pretrained_cfg": PRETRAINED | {"input_size": [3, 64, 64]},
    }
    put_on_hub(
        tmp_path / "hub",
        "timm/resnet50.tv_in1k",
        {"config.json": config, "model.safetensors": arrays},
    )
    PIL.Image.effect_noise((90, 70), 60).save(tmp_path / "photo.jpg")
    command = [
        sys.executable,
        "-m",
        "mdm_jax",
        "explain",
        "photo.jpg",
        "--model",
        "resnet50",
    ]
    command += [
        "--weights",
        "timm/resnet50.tv_in1k",
        "--config",
        "quick.toml",
        "--out",
        "maps",
    ]
    (tmp_path / "quick.toml").write_text("steps = 2\nsizes = [4]\n")
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    environment |= {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    first = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert first.returncode == 0, first.stderr
    assert "timm/resnet50.tv_in1k" in first.stdout
    assert len(list((tmp_path / "maps").glob("photo-class*-overlay.png"))) == 1

    entries = set(os.listdir(tmp_path / "compiled"))
    second = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert second.returncode == 0, second.stderr
    added = {
        name
        for name in set(os.listdir(tmp_path / "compiled")) - entries
        if not name.endswith("-atime")
    }
    assert entries, "the persistent cache is used when asked"
    assert not added, "and a second process finds everything there"


MINIMUM = {
    "resnet": 0.95,
    "densenet": 0.95,
    "vit": 0.90,
    "protopnet": 0.95,
    "xprotonet": 0.95,
}


def test_every_family_is_embedded_and_every_variant_resolves_to_its_family():
    assert tuple(EMBEDDED) == FAMILIES
    for name, (family, variant) in STANDARD.items():
        assert resolve(name) == (family, dict(variant.arguments))


@pytest.mark.slow
@pytest.mark.parametrize("family", EMBEDDED)
def test_embedded_networks_read_1000_test_digits(family):
    classifier, source = load_model(family), Digits("test")
    predict = jax.jit(lambda network, images: jnp.argmax(network(images)[0], axis=-1))
    hits = 0
    for start in range(0, 1000, 250):
        examples = [source[i] for i in range(start, start + 250)]
        chosen = predict(classifier, np.stack([example.image for example in examples]))
        hits += int(np.sum(np.asarray(chosen) == [example.label for example in examples]))
    assert hits / 1000 >= MINIMUM[family]


@pytest.mark.parametrize("family", EMBEDDED)
def test_embedded_weights_are_small_and_described(family):
    assert (EMBEDDED[family] / "model.safetensors").stat().st_size <= 2_000_000
    assert (
        json.loads((EMBEDDED[family] / "config.json").read_text())["architecture"] == family
    )
    first = (
        CLASSIFIERS[family].first_layer + ".weight"
        if family in CLASSIFIERS
        else "prototypes"
    )
    assert first in load_file(EMBEDDED[family] / "model.safetensors") or family == "vit"


def test_the_same_weights_with_other_heads_are_another_network():
    """Nothing but the arguments tells the two apart."""
    identities = []
    for heads in (2, 4):
        network = build(
            "vit",
            num_classes=3,
            size=(16, 16),
            rngs=nnx.Rngs(0),
            patch=8,
            width=16,
            depth=1,
            heads=heads,
        )
        how = Preprocessing(3, (16, 16), 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
        identities.append(
            network_fingerprint(Classifier(network, "vit", tuple("abc"), how))
        )
    first, second = identities
    assert first["weights"] == second["weights"]
    assert differences(first, second) == ["arguments.heads 2 -> 4"]
    assert argument_defaults(second, "model.")["model.arguments.heads"] == 4
