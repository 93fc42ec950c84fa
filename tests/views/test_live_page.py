"""The page of `mdm view`: the steps that it shows are those of `explain`, and it works in a
browser."""

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from conftest import patch_network

from mdm_jax import InputError, MDMConfig, Status, explain, methods
from mdm_jax.cli.main import main
from mdm_jax.cli.view import ViewCommand
from mdm_jax.config import PRESETS
from mdm_jax.data import Digits
from mdm_jax.images import to_uint8
from mdm_jax.methods import MethodSpec
from mdm_jax.views.live import choices, markup, pictures
from mdm_jax.views.live.look import Look
from mdm_jax.views.live.stepwise import Question, learn, solve

CHROMIUM = (
    shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
HOSTILE = "<img src=x onerror=document.title='broken'>"


@pytest.fixture(scope="module")
def question(images):
    return Question(patch_network, images[0], "a", 0, "probability")


@pytest.fixture(scope="module")
def learned(question):
    method = methods.configure("mdm", MDMConfig(sizes=(4, 8), steps=5))
    return list(learn(question, method, every=2))


def test_the_steps_lead_to_what_explain_finds(question, learned, images):
    *seen, explanation = learned
    config = MDMConfig(sizes=(4, 8), steps=5)
    whole = explain(
        patch_network, images[:1], 0, node="probability", config=config, ids=["a"]
    )
    assert [each.step for each in seen] == [0, 2, 4, 5]
    for ours, theirs in zip(explanation.mask_vectors, whole.mask_vectors):
        np.testing.assert_allclose(ours, theirs[0], atol=1e-5)
    np.testing.assert_allclose(explanation.saliency, whole.saliency[0], atol=1e-4)
    assert explanation.info.evaluations == whole.info.evaluations[0]
    assert explanation.info.forwards == whole.info.forwards[0]


def test_what_is_seen_on_the_way_is_the_mask_of_the_step(learned):
    first, _, _, last, _ = learned
    assert first.mask_vectors[1] is None  # its turn has not come
    np.testing.assert_allclose(first.mask, 0.7, atol=1e-6)
    assert last.mask_vectors[1].shape == (8, 8)
    assert last.mask.mean() < first.mask.mean()
    assert first.kept is None
    assert 0 < last.kept <= 1


def test_numbers_compile_nothing(question, learned, compilations):
    config = MDMConfig(sizes=(4, 8), steps=5, kept_share=0.6, learning_rate=0.1)
    explanation = learned[-1]
    with compilations as counted:
        *_, other = learn(question, methods.configure("mdm", config), every=2)
    assert counted.count == 0
    assert other.info.kept_area != explanation.info.kept_area


def test_another_method_gives_its_answer_at_once(question):
    (found,) = solve(question._replace(node="logit"), methods.configure("gradient"))
    assert found.saliency.shape == question.image.shape[:2]
    with pytest.raises(InputError, match="gradient does not learn step by step"):
        next(learn(question, methods.configure("gradient")))


def test_pictures_are_of_the_state(question, learned):
    first, _, _, last, explanation = learned
    drawn = pictures.of_progress(question.image, first)
    strip = pictures.mask_strip(first.mask_vectors, (32, 32))
    assert strip.shape == (32, 2 * 32 + pictures.GAP, 4)
    assert tuple(strip[5, -5]) == pictures.NOT_YET
    assert not strip[:, 32 : 32 + pictures.GAP].any()
    assert drawn.saliency is None
    done = pictures.of_explanation(question.image, explanation)
    for picture in (drawn.masks, drawn.kept, done.kept, done.saliency):
        with PIL.Image.open(pictures.io.BytesIO(picture)) as opened:
            assert min(opened.size) >= pictures.LEAST_SIDE
    assert "Step 5 of 5" in pictures.describe_progress(last)


def test_a_lost_mask_is_named_with_the_reason(learned):
    *_, explanation = learned
    lost = explanation._replace(
        info=explanation.info._replace(
            status=np.int32(Status.LOST), activation_masked=explanation.info.activation_fill
        )
    )
    facts = pictures.describe(lost, HOSTILE, "probability", "mdm", 1.0)
    rows = dict(facts.rows)
    assert rows["status"] == "LOST"
    assert rows["share of the activation kept"] == "0 %"
    assert rows["probability after masking"] == f"{lost.info.activation_fill:.3f}"
    assert facts.warning.startswith("LOST: the masks keep less than half")
    assert "<img" not in markup.table(facts)


def test_choices_become_settings():
    base = MethodSpec(mdm={"steps": 20})
    spec = choices.specify(base, choices.Choices(fill="mean", kept_share=0.8))
    config = spec.resolve().config
    assert (config.steps, config.fill, config.kept_share) == (20, "mean", 0.8)
    asked = choices.Choices(preset="paper", kept_share=0.8, area_weight=7.0)
    config = choices.specify(MethodSpec(), asked).resolve().config
    weights = {term.name: term.weight for term in config.objective}
    assert weights == {"squared": 1.0, "area": 7.0}
    assert config.kept_share == PRESETS["paper"].kept_share  # has no effect there
    other = choices.specify(base, choices.Choices(method="rise", fill="mean"))
    assert other.resolve().name == "rise"


def test_what_is_saved_is_what_explain_is_asked_for(tmp_path):
    view = ViewCommand(photo=tmp_path / "a.png", out=tmp_path, seed=3, port=8080)
    spec = MethodSpec(preset="best", mdm={"fill": "mean"})
    options = view.as_explain(spec, 7)
    assert (options.files, options.target) == ((tmp_path / "a.png",), 7)
    assert (options.seed, options.out, options.preset) == (3, tmp_path, "best")
    assert options.mdm == {"fill": "mean"}
    assert "rise" in view.as_explain(MethodSpec(method="rise"), 0).method


def test_without_the_library_one_sentence_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["view", "photo.png"]) == 2
    assert "pip install 'mdm_jax[view]'" in capsys.readouterr().err


needs_panel = pytest.mark.skipif(
    importlib.util.find_spec("panel") is None,
    reason="no panel here: pip install 'mdm_jax[view]'",
)


@needs_panel
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no photograph"),
        (["nothing.png"], "nothing.png"),
        (["digit.png", "--model", "nothing"], "nothing"),
        (["digit.png", "--node", "similarity"], "explains classes"),
        (["digit.png", "--port", "70000"], "give 0 to 65535"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(words, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (8, 8)).save("digit.png")
    assert main(["view", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in said


@needs_panel
def test_a_port_that_is_taken_is_a_sentence(capsys, monkeypatch, tmp_path):
    from mdm_jax.views.live import page

    look = object.__new__(Look)  # a network would have to be loaded for a whole one
    object.__setattr__(look, "name", "a.png")
    with socket.socket() as other:
        other.bind((page.ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} cannot be had"),
            page.make_server(look, port),
        ):
            pass


@pytest.fixture
def server(tmp_path):
    """The page of a digit, and its address."""
    photo = tmp_path / "digit.png"
    PIL.Image.fromarray(to_uint8(Digits("test")[0].image)).save(photo)
    words = ["view", str(photo), "--port", "0", "--out", str(tmp_path / "saved")]
    command = [sys.executable, "-m", "mdm_jax", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = next(line for line in process.stderr if "the page is at" in line)
        yield process, next(word for word in said.split() if word.startswith("http"))
        process.kill()


@needs_panel
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_works_in_a_browser(server, tmp_path):
    browsers = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    process, address = server
    asked, errors = [], []
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        # the settings are those of the preset
        page.get_by_label("Preset").select_option("paper")
        page.get_by_text("Weight of the area (area)").wait_for()
        page.get_by_label("Preset").select_option("fast")
        page.get_by_text("Share of the activation to keep (kept_share)").wait_for()
        page.get_by_role("button", name="Run").click()
        page.get_by_text(re.compile(r"Step \d+ of 14")).wait_for()  # while the masks learn
        page.get_by_text("Done.").wait_for()
        assert "out of steps" in page.locator("table").inner_text()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved:").wait_for()
        browser.close()
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    written = {path.suffix for path in (tmp_path / "saved").iterdir()}
    assert written == {".png", ".npz", ".toml"}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
