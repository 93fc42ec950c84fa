"""A term, a fill, a node, a metric and a method of one's own: one function in a file outside the
package, and its name."""

import importlib
import json
import sys
import textwrap
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from conftest import patch_network

from mdm_jax import (
    InputError,
    MDMConfig,
    config_files,
    evaluate,
    explain,
    fills,
    methods,
    metrics,
    nodes,
    objectives,
    plugins,
)
from mdm_jax.cli.main import main
from mdm_jax.config import PRESETS
from mdm_jax.data.digits import Digits
from mdm_jax.sweeps import points

PARTS = '''
    from __future__ import annotations

    from dataclasses import dataclass

    import jax
    import jax.numpy as jnp

    from mdm_jax.baselines.attribution import make_explanation
    from mdm_jax.problem import begin
    from mdm_jax.types import Explanation, Method


    def corner(view):
        """Of the mask, the corner alone may be kept."""
        return jnp.mean(view.mask) - jnp.mean(view.mask[:8, :8])


    def checkerboard(image, *, key):
        rows, columns = (jnp.arange(side) // 8 for side in image.shape[:2])
        return jnp.broadcast_to(((rows[:, None] + columns) % 2)[..., None] * 1.0, image.shape)


    def margin(outputs, target):
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        others = jnp.where(jnp.arange(logits.size) == target, -jnp.inf, logits)
        return logits[target] - jnp.max(others)


    def compactness(predict, sample, *, key):
        """The share of the image above half of the maximum."""
        return jnp.mean(sample.saliency > 0.5)


    compactness.better = "lower"


    @dataclass(frozen=True)
    class InverseConfig:
        power: float = 1.0


    def explain_inverse(predict, image, target=None, *, node, key, config=None, trace=False):
        problem = begin(predict, image, target, node=node, key=key)
        config = config or InverseConfig()
        attribution = (1.0 - image.mean(-1, keepdims=True)) ** config.power
        return make_explanation(predict, problem, attribution, node=node)


    inverse = Method("inverse", explain_inverse, InverseConfig, "logit")


    def annotated(
        predict, image, target=None, *, node="logit", key, config: InverseConfig | None = None,
        trace=False,
    ):
        return explain_inverse(predict, image, target, node=node, key=key, config=config)


    def plain(predict, image, target=None, *, node, key, config=None, trace=False):
        return explain_inverse(predict, image, target, node=node, key=key)


    def mistaken(predict, image, target=None, *, node, key, config=None, trace=False):
        return image
'''


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A folder of one's own with parts.py, where the user is; nothing of it is left among Python's
    modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "parts.py").write_text(textwrap.dedent(PARTS))
    yield tmp_path
    for name in [
        name
        for name, module in sys.modules.items()
        if str(tmp_path) in str(getattr(module, "__file__", ""))
    ]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def digit():
    return Digits("test")[0].image


@pytest.mark.slow
def test_a_term_and_a_fill_in_a_config(parts, images):
    written = {
        "objective": {"absolute": 1, "area": 3, "parts.py:corner": 100},
        "steps": 4,
        "fill": "parts.py:checkerboard",
    }
    config = config_files.build(MDMConfig, written | {"sizes": [4]}, base=PRESETS["fast"])
    again = config_files.build(MDMConfig, written | {"sizes": [4]}, base=PRESETS["fast"])
    assert (
        config.objective[2].function is again.objective[2].function
    )  # or it would be compiled twice
    found = explain(patch_network, images[:1], config=config)
    term, name = (
        plugins.load_function("parts.py:corner", "objective term"),
        "parts.py:corner",
    )
    by_hand = MDMConfig(
        sizes=(4,),
        steps=4,
        objective=(
            objectives.consistency("absolute"),
            objectives.area(3.0),
            objectives.term(term, 100.0, name),
        ),
        fill=plugins.load_function("parts.py:checkerboard", "fill"),
    )
    np.testing.assert_array_equal(
        found.saliency, explain(patch_network, images[:1], config=by_hand).saliency
    )
    assert name in found.info.terms
    assert np.unravel_index(found.mask_vectors[0][0].argmax(), (4, 4)) == (0, 0)


def test_a_fill_among_others_and_as_a_baseline(parts):
    config = config_files.build(
        MDMConfig, {"fill": ["blur", "parts.py:checkerboard"]}, base=PRESETS["fast"]
    )
    assert config.fill == ("blur", "parts.py:checkerboard")
    assert all(map(callable, fills.resolve_turns(config.fill)))
    chosen = methods.configure("integrated_gradients:baseline=parts.py:checkerboard")
    assert chosen.config.baseline == "parts.py:checkerboard"
    with pytest.raises(InputError, match=r"unknown name in parts\.py: 'zero'"):
        methods.configure("integrated_gradients:baseline=parts.py:zero")


def test_a_node_and_a_method(parts, images):
    found = explain(
        patch_network, images[:1], method="parts.py:inverse", node="parts.py:margin"
    )
    logits = np.sort(patch_network(images[:1])[0])
    np.testing.assert_allclose(found.info.activation, logits[-1] - logits[-2], rtol=1e-4)
    np.testing.assert_allclose(found.attribution[0], 1.0 - images[0].mean(-1), rtol=1e-5)
    chosen = methods.configure("parts.py:inverse:power=2.0")
    assert (chosen.name, chosen.config.power) == ("parts.py:inverse", 2.0)
    squared = explain(patch_network, images[:1], method=chosen.name, config=chosen.config)
    np.testing.assert_allclose(squared.attribution, found.attribution**2, rtol=1e-5)
    assert methods.configure("parts.py:plain").default_node == "probability"
    assert methods.configure("parts.py:plain").config is None


def test_settings_of_a_function_were_once_read_from_its_signature(parts):
    with pytest.warns(DeprecationWarning, match=r"mdm_jax\.Method\('annotated', function"):
        chosen = methods.configure("parts.py:annotated:power=2.0")
    assert (chosen.config.power, chosen.default_node) == (2.0, "logit")


def test_a_metric(parts, images):
    maps = np.zeros((3, 32, 32), np.float32)
    maps[:, :8] = 1.0
    scores = evaluate(
        lambda images: images.mean((1, 2)), images, maps, 0, metrics="parts.py:compactness"
    )
    ((name, summary),) = scores.summary().items()
    assert name == metrics.find("parts.py:compactness").id
    assert (summary.value, summary.better) == (0.25, "lower")
    assert (
        metrics.find("parts:compactness").description
        == "The share of the image above half of the maximum."
    )


def test_a_metric_that_says_everything_itself(parts):
    (parts / "told.py").write_text(
        "from mdm_jax.metrics import Metric\n"
        "spot = Metric('spot', 'first', lambda predict, sample, *, key: sample.saliency[0, 0],"
        " 'higher', 'map')\n"
    )
    metric = metrics.find("told.py:spot")
    assert (metric.name, metric.needs) == ("spot", "map")
    assert metric.protocol.startswith("first-")
    assert metrics.find("told.py:spot") == metric  # or it would be compiled twice


@pytest.mark.slow
def test_another_text_is_another_part(parts, images):
    """In one process too, and within the second in which Python would take the old text's code."""
    before = explain(
        patch_network, images[:1], method="sobel", node="parts.py:margin"
    ).info.activation
    told, metric = (
        plugins.reference_checksums(
            MDMConfig(fill="parts.py:checkerboard"), "parts.py:margin"
        ),
        "parts.py:compactness",
    )
    id = metrics.find(metric).id
    file = parts / "parts.py"
    file.write_text(
        file.read_text().replace("return logits[target] -", "return 3 * logits[target] -")
    )
    after = explain(
        patch_network, images[:1], method="sobel", node="parts.py:margin"
    ).info.activation
    assert after > before + 1
    assert told.keys() == {"parts.py:checkerboard", "parts.py:margin"}
    assert not set(told.values()) & set(
        plugins.reference_checksums(
            ["parts.py:checkerboard"], {"node": "parts.py:margin"}
        ).values()
    )
    assert metrics.find(metric).id != id
    assert plugins.reference_checksums("mdm", MDMConfig(), "insertion:rise-28") == {}


def test_a_module_is_what_python_imported_until_it_is_loaded_again(parts):
    first = plugins.load_reference("parts:margin")
    file = parts / "parts.py"
    file.write_text(file.read_text() + "\n")
    assert plugins.load_reference("parts:margin") == first
    importlib.reload(sys.modules["parts"])
    assert plugins.load_reference("parts:margin").checksum != first.checksum


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "nowhere.py:margin",
            r"cannot read nowhere.py \(No such file or directory\): check the path",
        ),
        ("nowhere:margin", "there is no module 'nowhere'"),
        ("parts.py:margn", "unknown name in parts.py: 'margn': did you mean 'margin'"),
        ("parts.py:jnp", "parts.py:jnp is a module: a node is a function"),
        (
            "parts.py:corner",
            r"cannot be called as a node \(too many positional arguments\): a node is a function",
        ),
        (
            "broken.py:margin",
            r"broken.py fails while it is imported \(line 2, NameError: name 'jn' is not defined\)",
        ),
        (
            "unfinished.py:margin",
            r"unfinished.py fails while it is imported \(line 1, SyntaxError: .*was never closed\)",
        ),
        (
            "leaving.py:margin",
            r"leaving.py fails while it is imported \(line 1, SystemExit: 3\)",
        ),
        (
            "needing:margin",
            r"needing fails while it is imported \(ModuleNotFoundError: No module named 'what'\)",
        ),
        ("empty.py:margin", "empty.py has no 'margin', and no functions of its own"),
    ],
)
def test_mistakes_are_told(parts, text, sentence):
    (parts / "broken.py").write_text("import math\nx = jn.ones(3)\n")
    (parts / "unfinished.py").write_text("x = (1,\n")
    (parts / "leaving.py").write_text("raise SystemExit(3)\n")
    (parts / "needing.py").write_text("import what\n")
    (parts / "empty.py").write_text("")
    with pytest.raises(InputError, match=sentence):
        nodes.resolve(text)


def test_mistakes_of_a_kind(parts, images):
    with pytest.raises(InputError, match="cannot be called as an objective term"):
        objectives.from_mapping({"parts.py:margin": 1.0})
    with pytest.raises(InputError, match="cannot be called as a fill"):
        config_files.build(MDMConfig, {"fill": "parts.py:corner"}, base=PRESETS["fast"])
    with pytest.raises(InputError, match="cannot be called as a metric"):
        metrics.find("parts.py:margin")
    with pytest.raises(InputError, match="unknown metric 'insertion:half'"):
        metrics.find("insertion:half")
    with pytest.raises(
        InputError,
        match=r"unknown setting of parts\.py:inverse 'powr': did you mean 'power'",
    ):
        methods.configure("parts.py:inverse:powr=2.0")
    with pytest.raises(InputError, match=r"parts\.py:plain takes no settings"):
        methods.configure("parts.py:plain:power=2.0")
    with pytest.raises(InputError, match="unknown method 'inverse'"):
        methods.configure("inverse:power=2.0")
    with pytest.raises(
        InputError, match=r"the method returns a .*: let it return an Explanation"
    ):
        explain(patch_network, images[:1], method="parts.py:mistaken")


def test_files_import_their_neighbors(parts):
    (parts / "far").mkdir()
    (parts / "far" / "neighbor_of_far.py").write_text(
        "def lit(view):\n    return view.mask.mean()\n"
    )
    (parts / "far" / "terms.py").write_text("from neighbor_of_far import lit as lit\n")
    mask = jnp.full((2, 2), 0.5)
    assert (
        plugins.load_function("far/terms.py:lit", "objective term")(
            SimpleNamespace(mask=mask)
        )
        == 0.5
    )


@pytest.mark.slow
def test_explain_on_the_command_line(parts, digit, capsys):
    PIL.Image.fromarray((digit * 255).astype(np.uint8)).save("digit.png")
    (parts / "my.toml").write_text(
        'steps = 3\nfill = "parts.py:checkerboard"\n[objective]\nabsolute = 1.0\n"parts.py:corner"'
        " = 0.5\n"
    )
    command = ["explain", "digit.png", "--config", "my.toml", "--json"]
    command += ["--node", "parts.py:margin"]
    assert main(command) == 2
    assert "'parts.py:corner' is code that only a file" in capsys.readouterr().err
    assert main([*command, "--code", "parts.py:checkerboard", "parts.py:corner"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    with np.load(next((parts / "mdm-explain").glob("*.npz"))) as arrays:
        assert "term_parts.py:corner" in arrays
        assert arrays["activation"] == pytest.approx(row["before"])
    assert main([*command, "--code", "parts.py", "--node", "parts.py:marg"]) == 2
    assert "did you mean 'margin'?" in capsys.readouterr().err


@pytest.mark.slow
def test_benchmark_on_the_command_line(parts, capsys):
    command = ["benchmark", "--limit", "2", "--grid", "0", "--json"]
    command += [
        "--methods",
        "parts.py:inverse",
        "parts.py:inverse:power=2.0",
        "--metrics",
        "parts.py:compactness",
    ]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    id = metrics.find("parts.py:compactness").id
    assert [row["method"] for row in rows] == [
        "parts.py:inverse",
        "parts.py:inverse:power=2.0",
    ]
    assert rows[0][id] > rows[1][id] > 0
    file = parts / "parts.py"
    file.write_text(file.read_text().replace("> 0.5", "> 0.6"))
    assert main(command) == 2  # maps of another text are not taken for this one's
    assert "outside.parts.py:inverse" in capsys.readouterr().err


@pytest.mark.slow
def test_sweep_on_the_command_line(parts, capsys):
    (parts / "sweep.toml").write_text(
        'limit = 1\nnode = "parts.py:margin"\nmetrics = ["parts.py:compactness"]\n[axes]\nsteps ='
        ' [2]\nsizes = [[4]]\n"objective.parts.py:corner" = [0.0, 50.0]\nfill ='
        ' ["parts.py:checkerboard"]\n'
    )
    assert (
        main(["sweep", "sweep.toml", "--out", "swept", "--json", "--code", "parts.py"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 2
    assert '"parts.py:corner"' in (parts / "swept" / "winner.toml").read_text()
    point = partial(
        points.point, {"objective.parts.py:corner": 1.0}, PRESETS["fast"], "probability"
    )
    before = point().identity
    file = parts / "parts.py"
    file.write_text(file.read_text() + "\n")
    assert point().identity != before  # what another text gave is not taken for this one's


@pytest.mark.slow
def test_a_run_and_its_evaluation_on_the_command_line(parts, capsys):
    command = [
        "run",
        "--limit",
        "2",
        "--method",
        "parts.py:inverse",
        "--node",
        "parts.py:margin",
        "--saliency",
    ]
    assert main(command) == 0
    capsys.readouterr()
    asked = ["--metrics", "parts.py:compactness", "--method", "parts.py:inverse", "--json"]
    assert main(["evaluate", "mdm-run", *asked]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["metric"] == metrics.find("parts.py:compactness").id
    assert 0 < row["value"] < 1
    file = parts / "parts.py"
    file.write_text(file.read_text() + "\n")
    assert main(command) == 2  # the same command would go on with maps of another text
    assert "outside.parts.py:margin" in capsys.readouterr().err
