"""`mdm explain` with several classes and methods: a sheet, names of their own, nothing twice."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

from mdm_jax import explain_batch
from mdm_jax.cli.explain import ExplainCommand
from mdm_jax.cli.main import main
from mdm_jax.cli.parse import parse
from mdm_jax.data.preprocessing import Preprocessing
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier
from mdm_jax.types import Explanation, Info, Status
from mdm_jax.views import explanation_figures, map_pictures

NAMES = ("left", "right", "top")
HALVES = [
    (slice(None), slice(0, 8)),
    (slice(None), slice(8, 16)),
    (slice(0, 8), slice(None)),
]


@jax.tree_util.register_static
class Halves:
    """Logits: how bright each half of an image is."""

    def __call__(self, images):
        logits = jnp.stack([4 * images[:, y, x].mean(axis=(1, 2, 3)) for y, x in HALVES])
        return logits.T, {}


@pytest.fixture
def calls(monkeypatch):
    """The network is a small one; methods are told, and answer without work."""
    numbers = (0.0,) * 3
    taken = Preprocessing(3, (16, 16), 1.0, "bilinear", numbers, (1.0,) * 3)
    classifier = Classifier(Halves(), "halves", NAMES, taken)
    monkeypatch.setattr(ExplainCommand, "load", lambda self: classifier)
    asked = []

    def explain(network, images, targets, *, method, ids, on_progress, **_):
        if method.name == "rollout":
            raise InputError("the network has no attention")
        targets = np.zeros(len(images), int) if targets is None else np.asarray(targets)
        asked.extend((method.label, id, int(t)) for id, t in zip(ids, targets))
        on_progress(len(images))
        n = len(images)
        status = np.where(np.arange(n) == 1, Status.LOST, Status.CONVERGED)
        numbers = [np.full(n, 0.5)] * 5
        counts = [np.ones(n, int)] * 3
        info = Info(targets, *numbers, {}, *counts, status)
        vectors = (np.full((n, 2, 2), 0.5),) if method.name == "mdm" else ()
        return Explanation(np.full((n, 16, 16), 0.5, np.float32), vectors, info)

    monkeypatch.setattr(explain_batch, "explain", explain)
    return asked


@pytest.fixture
def quick_pictures(monkeypatch):
    """Pictures of single maps are empty: only sheets are drawn."""
    for module, name in (
        (map_pictures, "draw_overlay"),
        (explanation_figures, "masks_sheet"),
    ):
        monkeypatch.setattr(module, name, lambda *_: Figure(figsize=(0.1, 0.1)))


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        pixels = rng.integers(0, 255, (24, 40, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    return [tmp_path / "a.png", tmp_path / "b.png"]


def explained(capsys, *words, code=0):
    assert main(["explain", *map(str, words), "--model", "halves", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def names(result):
    return {file.rpartition("/")[2] for file in result["files"]}


def test_classes_and_methods_side_by_side_and_nothing_twice(
    calls, quick_pictures, files, tmp_path, capsys
):
    out = tmp_path / "out"
    methods = ["--method", "mdm", "--method", "gradient", "--method", "mdm:preset=fast"]
    found = explained(capsys, *files, files[0], *methods, "--top", 2, "--out", out)
    assert len(calls) == len(set(calls)) == 2 * 2 * 2
    assert {label for label, *_ in calls} == {"mdm", "gradient"}
    assert {"a-sheet.png", "b-sheet.png"} <= names(found)
    assert {file.name for file in out.iterdir()} == names(found) | {"mdm-explain.toml"}
    first = found["rows"][0]
    prefix = f"a-class{first['class']}"
    expected = {f"{prefix}-mdm{end}" for end in ("-overlay.png", "-masks.png", ".npz")}
    expected |= {f"{prefix}-gradient{end}" for end in ("-overlay.png", ".npz")}
    assert {name for name in names(found) if name.startswith(prefix)} == expected
    assert [row["node"] for row in found["rows"]] == ["probability"] * 4 + ["logit"] * 4
    lost = [row for row in found["rows"] if row["status"] == "lost"]
    assert [row["method"] for row in lost] == ["mdm", "gradient"]
    for row in lost:
        warned = f"{row['file']}, class {row['class']}, {row['method']}: the masks keep"
        assert warned in found["summary"]
    with PIL.Image.open(out / "a-sheet.png") as sheet:
        assert sheet.width > sheet.height

    # The same again gives the same names; other settings or classes give others.
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    again = explained(capsys, *files, *methods, "--top", 2, "--out", out)
    assert names(again) == names(found)
    other = explained(capsys, files[0], *methods, "--top", 2, "--seed", 1, "--out", out)
    three = explained(capsys, files[0], *methods, "--top", 3, "--out", out)
    assert not names(other) & names(found)
    assert "a-sheet-2.png" in names(other)
    assert "a-sheet-3.png" in names(three)
    for name, content in before.items():
        assert (out / name).read_bytes() == content, name


def test_a_method_that_cannot_explain_the_network_is_told(calls, files, tmp_path, capsys):
    out = tmp_path / "out"
    words = [files[0], "--out", out, "--method", "rollout"]
    found = explained(capsys, *words, "--method", "gradient", "--target", "RIGHT", code=3)
    assert [row["class"] for row in found["rows"]] == [1]
    assert "left out: rollout: the network has no attention" in found["summary"]
    assert not any("sheet" in name for name in names(found))
    assert main(["explain", *map(str, words)]) == 2
    assert capsys.readouterr().err == "mdm: the network has no attention\n"


def test_pictures_say_class_probability_method_and_the_embedded_network(
    calls, files, tmp_path, monkeypatch
):
    figures = {}
    monkeypatch.setattr(
        explanation_figures,
        "save",
        lambda figure, path, texts=None: figures.setdefault(path.name, figure),
    )
    words = ["explain", str(files[0]), "--out", str(tmp_path / "out"), "--target", "top"]
    assert main([*words, "--method", "gradient", "--method", "random"]) == 0
    for name in ("a-class2-gradient-overlay.png", "a-sheet.png"):
        said = " ".join(text.get_text() for text in figures[name].texts)
        for part in ("class “top”", "probability 0.", "logit 0.500", "gradient", "halves"):
            assert part in said
        assert "which knows digits only" in said


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("", [], ("mdm",)),
        ("", ["--method", "rise", "--method", "hdm"], ("rise", "hdm")),
        ('method = "rise"', [], ("rise",)),
        ('method = ["rise", "hdm"]', [], ("rise", "hdm")),
        ('method = ["rise", "hdm"]', ["--method", "gradient"], ("gradient",)),
    ],
)
def test_methods_by_words_and_by_file(tmp_path, text, words, expected):
    file = tmp_path / "explain.toml"
    file.write_text(text)
    options = parse(ExplainCommand, "mdm explain", ["--config", str(file), *words])
    assert options.method == expected


def test_settings_of_mdm_are_for_mdm_among_others():
    command = ExplainCommand(method=("gradient", "mdm"), preset="paper")
    gradient, mdm = command.questions()
    assert gradient.method.name == "gradient"
    assert mdm.method.config == ExplainCommand(preset="paper").questions()[0].method.config
    with pytest.raises(InputError, match="are not for gradient"):
        ExplainCommand(method=("gradient",), preset="paper").questions()
