"""One reader for every text file: the mark that editors begin a file with is no part of it."""

import json
from pathlib import Path

import pytest

import mdm_jax
from mdm_jax import InputError, config_files
from mdm_jax.data import tables
from mdm_jax.data.folder_truth import class_names
from mdm_jax.models.find_weights import _read_config
from mdm_jax.storage.workspace import read_settings
from mdm_jax.text_files import decode_text, read_text
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


def test_no_file_of_a_user_is_read_otherwise():
    package = Path(mdm_jax.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if ".read_text(" in path.read_text(encoding="utf-8")
    }
    # These read files of the package itself, or those that it wrote.
    own = {"models/model_config.py", "views/pages/prototype_page.py"}
    own |= {"views/pages/run_report.py", "storage/claims.py", "cli/output_config.py"}
    assert found == own


def test_what_is_no_text():
    with pytest.raises(ValueError, match="codec"):
        decode_text(b"caf\xe9")
