"""A method is a name, a name with settings, or its settings, wherever one is taken."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import mdm_jax
from mdm_jax import InputError, MDMConfig, Method, MethodSpec, methods
from mdm_jax.baselines import RISE, Center, GradCAM, center
from mdm_jax.baselines.cam import CAMConfig
from mdm_jax.cli.main import main
from mdm_jax.evaluation.benchmark_config import BenchmarkConfig

FORMS = {
    "name": ("center", Center()),
    "string": ("center:sigma=0.5", Center(sigma=0.5)),
    "value": (Center(sigma=0.5), Center(sigma=0.5)),
    "type": (Center, Center()),
    "old name": ("centre:sigma=0.5", Center(sigma=0.5)),
    "record": (methods.METHODS["center"], Center()),
    "function": (center.explain, Center()),
    "own file": ("own.py:own:sigma=0.5", Center(sigma=0.5)),
}
OWN = """
from mdm_jax import Center, Method
from mdm_jax.baselines import center


def explain(predict, image, target=None, *, node, key, config=None, trace=False):
    return center.explain(predict, image, target, node=node, key=key, config=config)


own = Method("own", explain, Center, "logit")
"""


def network(images):
    """Ten logits."""
    shades = images.mean((1, 2))
    return jnp.concatenate([shades, 2.0 * shades, 3.0 * shades, shades[:, :1]], axis=-1)


@pytest.fixture(params=FORMS)
def form(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    method, config = FORMS[request.param]
    image = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    expected = mdm_jax.explain(network, image, method="center", config=config).saliency
    return SimpleNamespace(method=method, config=config, image=image, expected=expected)


@pytest.mark.slow
def test_explain(form):
    shown = mdm_jax.explain(network, form.image, method=form.method)
    np.testing.assert_array_equal(shown.saliency, form.expected)


@pytest.mark.slow
def test_evaluate(form):
    maps = mdm_jax.explain(network, form.image, method=form.method)
    scores = mdm_jax.evaluate(
        network,
        form.image,
        maps.saliency,
        method=form.method,
        metrics="sparseness",
    )
    (summary,) = scores.summary().values()
    assert np.isfinite(summary.value)


@pytest.mark.slow
def test_run(form, tmp_path):
    asked = mdm_jax.RunConfig(method=form.method, limit=1, saliency=True)
    mdm_jax.run(network, mdm_jax.open_source("digits", "test"), tmp_path / "run", asked)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["config"] == {"sigma": form.config.sigma}


def test_benchmark(form):
    ((chosen,), _) = BenchmarkConfig(methods=(form.method,), metrics=("energy",)).resolve()
    assert chosen.config == form.config


@pytest.mark.slow
def test_specs_and_the_command_line(form, tmp_path, capsys):
    if not isinstance(form.method, str):
        pytest.skip("a command line and a file write text")
    assert MethodSpec(method=form.method).resolve().config == form.config
    PIL.Image.fromarray(np.uint8(form.image[0] * 255)).save(tmp_path / "photo.png")
    out = str(tmp_path / "out")
    assert (
        main(
            ["explain", str(tmp_path / "photo.png"), "--method", form.method, "--out", out]
        )
        == 0
    )


@pytest.mark.slow
def test_a_sweep_takes_a_preset_or_settings_of_mdm():
    image = np.random.default_rng(0).uniform(size=(1, 16, 16, 3)).astype(np.float32)
    settings = {"sizes": [4], "steps": 1}
    for base in ("fast", MDMConfig()):
        swept = mdm_jax.sweep(network, image, [settings], base=base, metrics="sparseness")
        assert swept.entries[0].config.steps == 1


def test_a_label_says_the_settings_that_are_not_the_default():
    assert methods.configure(RISE()).label == "rise"
    assert methods.configure(RISE(num_samples=9, baseline="black")).label == (
        "rise:num_samples=9,baseline=black"
    )
    again = methods.configure(methods.configure(RISE(num_samples=9)).label)
    assert again.config == RISE(num_samples=9)


def test_old_names_of_settings_are_read_in_strings():
    old = methods.configure("rise:samples=9,kept=0.25").config
    assert old == RISE(num_samples=9, keep_probability=0.25)
    assert methods.configure("smoothgrad:samples=9,noise=0.25").config.noise_level == 0.25
    assert methods.configure("mdm:parametrisation=box").config.parametrization == "box"


def test_settings_that_methods_once_shared():
    assert methods.configure("grad_cam", CAMConfig(layer="map")).config == GradCAM(
        layer="map"
    )


@dataclass(frozen=True)
class Own:
    power: float = 1.0


@pytest.mark.parametrize(
    ("method", "config", "sentence"),
    [
        ("rize", None, "did you mean 'rise'"),
        ("rise:sample=9", None, "did you mean 'num_samples'"),
        (
            "rise:num_samples=x",
            None,
            "num_samples is 'x' in 'rise:num_samples=x': write a whole",
        ),
        ("rise:num_samples=9", RISE(), "are given twice"),
        (RISE(), RISE(), "are given twice"),
        (RISE(num_samples=0), None, "num_samples is 0"),
        ("rise", Center(), "config is a Center: rise takes a RISE"),
        ("mdm", 3, "config is a int: mdm takes a MDMConfig"),
        ("mdm:preset=papr", None, "did you mean 'paper'"),
        ("mdm:start=grad_cm", None, "unknown start 'grad_cm': did you mean 'grad_cam'"),
        (Own(), None, "is no method"),
        (Own, None, "is no method"),
        (None, None, "is no method"),
    ],
)
def test_what_is_no_method(method, config, sentence):
    with pytest.raises(InputError, match=sentence):
        methods.configure(method, config)


def test_a_record_of_ones_own_names_its_settings():
    own = Method("own", center.explain, Own, "logit")
    chosen = methods.configure(own, Own(power=2.0))
    assert (chosen.name, chosen.default_node, chosen.config.power) == ("own", "logit", 2.0)
    with pytest.raises(InputError, match="own takes a Own"):
        methods.configure(own, Center())
