"""One reader for every text file: the mark that editors begin a file with is no part of it."""

import json
import re
from pathlib import Path

import pytest

import mdm_jax
from mdm_jax import InputError, config_files
from mdm_jax.data import tables
from mdm_jax.data.folder_truth import class_names
from mdm_jax.models.find_weights import _read_config
from mdm_jax.runs.store import open_store
from mdm_jax.storage.workspace import read_settings
from mdm_jax.text_files import decode_text, parse_json, parse_toml, read_text
from mdm_jax.training.prototypes import record


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_are_read_everywhere(tmp_path, encoding):
    def written(name, text):
        (tmp_path / name).write_text(text, encoding=encoding)
        return tmp_path / name

    named = {"a": "Käfer €"}
    assert read_text(written("any.txt", "Käfer\n")) == "Käfer\n"
    assert config_files.read_toml(written("a.toml", 'a = "Käfer €"')) == named
    written("classes.json", json.dumps(named))
    assert class_names(tmp_path) == named
    assert _read_config(written("config.json", json.dumps(named))) == named
    assert read_settings(written("settings.json", json.dumps(named)), "") == named
    rows = tables.rows(written("t.csv", "file,label\r\na.png,Käfer\r\n"), ("file", "label"))
    assert list(rows) == [(2, {"file": "a.png", "label": "Käfer"})]
    written(record.FILE, "{}")
    with pytest.raises(InputError, match=r"KeyError|lacks|damaged"):
        record.read(tmp_path)


def files_with(pattern):
    """The files of the package in which a pattern stands."""
    package = Path(mdm_jax.__file__).parent
    return {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }


def test_no_file_of_a_user_is_read_otherwise():
    found = files_with(r"\.read_text\(")
    # These read files of the package itself, or those that it wrote.
    own = {"models/model_config.py", "views/pages/prototype_page.py"}
    own |= {"views/pages/run_report.py", "views/live/controls.py", "cli/output_config.py"}
    assert found == own
    # What was dumped just before is no file.
    assert files_with(r"json\.loads\((?!\s*json\.dumps)|json\.load\(") == {"text_files.py"}
    assert files_with(r"tomllib\.") == {"text_files.py"}


NESTED = {
    "config.json": lambda folder: _read_config(folder / "config.json"),
    "classes.json": class_names,
    "prototypes.json": record.read,
    "any.json": lambda folder: read_settings(folder / "any.json", "remove it"),
    "run.json": lambda folder: open_store(folder).read_description(),
    "zarr.json": lambda folder: open_store(folder).specs(),
    "any.toml": lambda folder: config_files.read_toml(folder / "any.toml"),
}


@pytest.mark.parametrize("depth", [101, 100_000])
@pytest.mark.parametrize("name", NESTED)
def test_nested_without_end(tmp_path, name, depth):
    nested = "[" * depth + "]" * depth
    is_toml = name.endswith(".toml")
    (tmp_path / name).write_text(f"a = {nested}" if is_toml else f'{{"a": {nested}}}')
    with pytest.raises(InputError) as error:
        NESTED[name](tmp_path)
    assert "\n" not in str(error.value)


def test_dotted_keys_are_nested_too(tmp_path):
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        parse_toml(".".join("a" * 5000) + " = 1")
    text = "[" * 100_000
    assert config_files.parse_settings(f"steps={text}", "mdm") == {"steps": text}


def test_numbers_without_end():
    with pytest.raises(ValueError, match="digits"):
        parse_json("-" + "1" * 5000)
    assert parse_json("[1e400, 12, -3]") == [float("inf"), 12, -3]


def test_what_is_no_text():
    with pytest.raises(ValueError, match="codec"):
        decode_text(b"caf\xe9")
