"""How options are given: by words, by a file of --config, by old names; and what help says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from mdm_jax import InputError
from mdm_jax.cli.console import Result, Terminal
from mdm_jax.cli.main import VERBS, load_verb, main
from mdm_jax.cli.options import describe_presets
from mdm_jax.cli.output_config import plain_config, write_config
from mdm_jax.cli.parse import parse
from mdm_jax.config import PRESETS, MDMConfig

HEAVY = ("jax", "numpy", "flax", "optax", "orbax", "grain", "matplotlib", "rich", "tyro")


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_import_nothing(word):
    code = (
        "import sys, mdm_jax.cli.main as m; m.main(sys.argv[1:]);"
        f" sys.exit(any(name in sys.modules for name in {HEAVY}))"
    )
    assert subprocess.run([sys.executable, "-c", code, word], check=False).returncode == 0


def test_help_lists_every_verb_on_one_screen(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for name, verb in VERBS.items():
        assert any(name in line and verb.summary in line for line in lines)


def test_presets_say_what_they_cost():
    text = describe_presets(PRESETS | {"long": MDMConfig(steps=700)})
    steps = {name: PRESETS[name].steps for name in ("fast", "best", "fast-2026-11")}
    for name, count in (steps | {"long": 700, "paper": "300 or 400"}).items():
        assert f"{name} ({count})" in text


def test_words_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "demo.toml"
    file.write_text('limit = 3\nseed = 5\nout = "here"\nsteps = 4\n')
    demo = load_verb("demo")
    options = parse(demo, "mdm demo", ["--config", str(file), "--seed", "7"])
    assert (options.limit, options.seed, str(options.out)) == (3, 7, "here")
    assert options.preset == demo().preset
    assert options.resolve().config.steps == 4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limt = 3", "did you mean 'limit'"),
        ('limit = "many"', "the setting limit is 'many': write a whole number"),
        ('preset = "papr"', "unknown preset 'papr': did you mean 'paper'"),
    ],
)
def test_a_wrong_option_in_a_file_is_a_sentence_with_its_name(tmp_path, text, sentence):
    file = tmp_path / "demo.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"demo\.toml") as error:
        parse(load_verb("demo"), "mdm demo", ["--config", str(file)])
    assert sentence in str(error.value)


@pytest.mark.parametrize("words", [["--count", "3"], ["--count=3"]])
def test_an_old_name_is_taken_with_a_warning(words):
    with pytest.warns(FutureWarning, match="--count is deprecated: write --limit"):
        options = parse(load_verb("demo"), "mdm demo", words)
    assert options.limit == 3


def test_a_wrong_choice_names_the_option_and_the_nearest():
    with pytest.raises(
        InputError, match="unknown --dtype 'float33': did you mean 'float32'"
    ):
        parse(load_verb("explain"), "mdm explain", ["photo.png", "--dtype", "float33"])


GIVEN = {
    "demo": ["--limit", "2", "--model", "vit"],
    "explain": [
        "a.png",
        "b.png",
        "--target",
        "3",
        "--node",
        "logit",
        "--dtype",
        "bfloat16",
    ],
    "evaluate": ["maps.npz", "--metrics", "energy", "--split", "all"],
    "benchmark": ["--methods", "mdm", "random", "--only-correct", "--worst", "energy"],
    "run": ["--data", "files:photos", "--limit", "5", "--saliency"],
    "report": ["runs/a", "runs/b", "--limit", "4"],
    "prototypes": ["protopnet", "--regions", "mdm", "--preset", "node"],
}
"""words of verbs whose options are written beside their results"""


@pytest.mark.parametrize("verb", GIVEN)
def test_the_options_beside_results_give_the_same_again(verb, tmp_path):
    command = load_verb(verb)
    options = parse(command, f"mdm {verb}", GIVEN[verb])
    file = write_config(options, tmp_path)
    assert file.name == f"mdm-{verb}.toml"
    again = parse(command, f"mdm {verb}", ["--config", str(file)])
    assert again == dataclasses.replace(options, config=file)
    assert plain_config(again) == plain_config(options)


def test_the_command_line_adds_the_option_to_a_sentence_of_the_library(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--limit", "1", "--out", str(tmp_path / "file")]) == 2
    assert "is a file: choose a folder (option --out)" in capsys.readouterr().err


def help_of(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    return capsys.readouterr().out.partition("usage:")[2]


def test_help_wraps_to_the_terminal_and_not_as_the_source_does(capsys, monkeypatch):
    text = help_of("explain", capsys, monkeypatch)
    # The source has a line break before deit.
    assert "vit_base_patch16_224 or deit_small_patch16_224; by its" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_optional_value_as_the_value(verb, capsys, monkeypatch):
    assert "{None}" not in help_of(verb, capsys, monkeypatch)


def test_the_word_none_takes_back_a_value():
    words = ["protopnet", "--limit", "None"]
    assert load_verb("prototypes")().limit == 5000
    assert parse(load_verb("prototypes"), "mdm prototypes", words).limit is None


def test_a_shell_completes_verbs_and_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert not ended.value.code
    script = capsys.readouterr().out
    assert "complete -F" in script
    for word in ("prototypes", "--log-json", "bfloat16"):
        assert word in script
    assert main(["--print-completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err


def test_columns_have_units(capsys):
    result = Result([{"before": 0.5, "area": 0.25}], "", [], units={"area": "of the image"})
    Terminal(as_json=False).show(result)
    assert capsys.readouterr().out.split() == [
        "before",
        "area",
        "(of",
        "the",
        "image)",
        "0.500",
        "0.250",
    ]
