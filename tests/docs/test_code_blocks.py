"""The Python code of README and of the documentation runs, on a tiny network and three images.

The blocks of a page share their names, in the order of the page. They find what a reader has: a
network (`predict`, `classifier`), `images`, a `photograph` and so on. A block that cannot run here
has a comment before it, `<!-- not run: reason -->`.

`mdm_jax.explain` does everything here but compile: it checks and traces what it is given, with the
whole method, and answers with zeros of the right shapes. Compiling a program for every block would
take minutes; what the numbers are is the subject of other tests.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx

import mdm_jax
from experiments.make_tables import ROOT, pages
from mdm_jax import explain_batch
from mdm_jax.data import Example
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.models.protopnet import ProtoPNet
from mdm_jax.models.resnet import ResNet

SIDE = 16
COMPILED = explain_batch._explain_chunk
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL
)


class Block(NamedTuple):
    line: int
    code: str
    reason: str | None
    """why it is not run"""


def blocks(page):
    text = page.read_text()
    return [
        Block(text.count("\n", 0, match.start("code")), match["code"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
PAGES_WITH_CODE = [name for name, page in PAGES.items() if blocks(page)]
# Runs and sweeps are compiled.
SLOW = ("docs/whole_data_sets.md", "docs/benchmarks_and_sweeps.md")


class Squares:
    """Four images with a bright square on one side."""

    name = "squares"
    class_names = ("left", "right", "none")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[4:12, 8 * (index % 2) : 8 * (index % 2) + 8] = True
        image = np.where(mask[..., None], np.float32(0.9), np.float32(0.1))
        return Example(str(index), np.repeat(image, 3, axis=2), index % 2, mask, None)


def predict(images):
    """Three logits: how bright each half is, and a fixed one."""
    left, right = (half.mean((1, 2, 3)) for half in jnp.split(images, 2, axis=2))
    return 8.0 * jnp.stack([left - right, right - left, jnp.full_like(left, 0.1)], axis=-1)


def as_classifier(network, name):
    preprocessing = Preprocessing(
        channels=3,
        size=(SIDE, SIDE),
        crop=1.0,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    classes = ("cat", "dog", "bird")
    inference = {"deterministic": True, "use_running_average": True}
    view = nnx.view(network, **inference, raise_if_not_found=False)
    return mdm_jax.Classifier(view, name, classes, preprocessing)


@pytest.fixture(scope="module")
def networks():
    """What `load_model` answers with here, by what it is asked for."""
    sizes = {"widths": (4, 4, 4, 4), "depths": (1, 1, 1, 1)}
    resnet = ResNet(num_classes=3, **sizes, rngs=nnx.Rngs(0))
    backbone = ResNet(num_classes=0, **sizes, rngs=nnx.Rngs(0))
    protopnet = ProtoPNet(
        backbone, num_classes=3, prototypes_per_class=1, width=4, rngs=nnx.Rngs(0)
    )
    return {
        "protopnet": as_classifier(protopnet, "protopnet"),
        "other": as_classifier(resnet, "resnet"),
    }


def trace_only(arrays, key, rest, solve, trace, images, targets, ids):
    """In place of the compiled program of `explain`: zeros, of the shapes that it would give."""

    def program(arrays, key, images, targets, ids):
        return COMPILED(arrays, key, rest, solve, trace, images, targets, ids)

    shapes = jax.eval_shape(program, arrays, key, images, targets, ids)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture(scope="module")
def names(networks):
    """What a block finds."""
    examples = [Squares()[i] for i in range(3)]
    images = np.stack([each.image for each in examples])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain_batch, "_explain_chunk", trace_only)
        explanation = mdm_jax.explain(predict, images)
    return {
        "predict": predict,
        "classifier": networks["other"],
        "images": images,
        "object_masks": [each.mask for each in examples],
        "photograph": PIL.Image.fromarray(np.full((40, 50, 3), 120, np.uint8)),
        "source": Squares(),
        "explanation": explanation,
    }


@pytest.fixture
def place(tmp_path, monkeypatch, networks):
    """An empty folder to run in, where `load_model` loads nothing and `explain` only traces."""
    signature = inspect.signature(mdm_jax.load_model)

    def load_model(*arguments, **settings):
        asked = signature.bind(*arguments, **settings).arguments.get("name")
        return networks.get(asked, networks["other"])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mdm_jax, "load_model", load_model)
    monkeypatch.setattr(explain_batch, "_explain_chunk", trace_only)
    before = dict(jax.config.values)
    yield tmp_path
    # A page may set JAX up; the tests after it find what was there.
    for setting, value in before.items():
        if jax.config.values[setting] != value:
            jax.config.update(setting, value)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in PAGES_WITH_CODE
    ],
)
def test_the_code_of_a_page_runs(name, names, place):
    namespace = dict(names)
    for block in blocks(PAGES[name]):
        if block.reason is None:
            # blank lines before it, so that a traceback names the line of the page
            code = compile("\n" * block.line + block.code, name, "exec")
            exec(code, namespace)


def test_every_block_is_seen():
    """No fence and no comment is written so that the pattern passes over it."""
    for page in PAGES.values():
        text = page.read_text()
        found = blocks(page)
        assert len(found) == len(
            re.findall(r"^\s*```\s*(?:python|py)\b", text, re.MULTILINE)
        )
        reasons = [block.reason for block in found if block.reason]
        assert len(reasons) == text.count("<!-- not run"), page


def packages(*extras):
    """The packages that an installation with these extras brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    names = {re.match(r"[\w-]+", each)[0].replace("-", "_") for each in lines}
    own = {"mdm_jax", "experiments", "PIL"}
    return names | own | set(sys.stdlib_module_names)


def test_readme_needs_no_more_than_its_own_install():
    assert imports(ROOT / "README.md") <= packages()


@pytest.mark.parametrize("name", PAGES_WITH_CODE)
def test_a_page_says_how_to_install_what_it_imports_besides(name):
    besides = imports(PAGES[name]) - packages()
    assert besides <= packages("data", "all")
    text = PAGES[name].read_text()
    for package in besides:
        extra = "data" if package in packages("data") else "all"
        assert re.search(rf"pip\s+install\s+'mdm_jax\[{extra}\]'", text), package


def imports(page):
    """The packages that the blocks of a page import, but for those that cannot run here."""
    trees = [ast.parse(block.code) for block in blocks(page) if block.reason is None]
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def test_api_pages_have_every_public_name():
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)", text, re.MULTILINE))
    public = {f"mdm_jax.{name}" for name in mdm_jax.__all__}
    public |= {f"mdm_jax.prototypes.{name}" for name in mdm_jax.prototypes.__all__}
    public |= {f"mdm_jax.sweeps.{name}" for name in ("grid", "sample")}
    assert public <= shown
