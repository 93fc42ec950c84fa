"""The first cell of the notebooks: which package it takes, and for which accelerator."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
VERSION = metadata.version
PIP = "%pip install --quiet {arguments}"
"""the line that IPython, and not Python, understands"""


def first_cell(path):
    cells = nbformat.read(path, as_version=4).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Runs the first cell in an empty folder; what it has pip install."""
    place = tmp_path / "place" / "notebooks"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)

    def install(*files, source="", installed=(), devices=()):
        def version(name):
            if name not in installed:
                raise metadata.PackageNotFoundError(name)
            return VERSION("numpy")

        monkeypatch.setattr(metadata, "version", version)
        for file in files:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).touch()
        for name in ("", *devices):
            (tmp_path / "dev" / name).mkdir(parents=True)
        code = first_cell(NOTEBOOKS[0])
        for old, new in (
            ('SOURCE = ""', f"SOURCE = {source!r}"),
            ('Path("/dev")', f"Path({str(tmp_path / 'dev')!r})"),
            (PIP, "installing.append(arguments)"),
        ):
            assert code.count(old) == 1, old
            code = code.replace(old, new)
        installing = []
        exec(code, {"installing": installing})
        words = [word for line in installing for word in shlex.split(line)]
        return [word.removeprefix(f"{place.parent}/") for word in words]

    return install


def test_all_begin_alike():
    assert len({first_cell(path) for path in NOTEBOOKS}) == 1
    assert first_cell(NOTEBOOKS[0]).count('SOURCE = ""  # @param {type: "string"}') == 1


WHEEL = "mdm_jax-0.1.0-py3-none-any.whl"
PROJECT = ("a clone/pyproject.toml", "a clone/mdm_jax/version.py")
ABOVE = ("../pyproject.toml", "../mdm_jax/version.py")
ADDRESS = "git+https://forge.example/owner/mdm_jax"


@pytest.mark.parametrize(
    ("files", "source", "installed", "taken"),
    [
        ((WHEEL, *PROJECT), ADDRESS, ("mdm_jax", "pandas"), []),
        ((WHEEL, *PROJECT), ADDRESS, (), [f"notebooks/{WHEEL}", "jax", "pandas"]),
        (
            ("other/pyproject.toml", *PROJECT),
            ADDRESS,
            (),
            ["notebooks/a clone", "jax", "pandas"],
        ),
        ((), f" {ADDRESS} ", ("pandas",), [ADDRESS, "jax"]),
        ((), ADDRESS, ("mdm_jax",), ["pandas"]),
    ],
    ids=["installed", "wheel", "folder", "address", "no tables"],
)
def test_what_is_taken_first(install, files, source, installed, taken):
    assert install(*files, source=source, installed=installed) == taken


def test_in_the_repository_itself(install, tmp_path):
    assert install(*ABOVE)[0] == str(tmp_path / "place")


def test_nothing_to_install_is_one_sentence(install):
    with pytest.raises(Exception, match="is not installed") as error:
        install("mdm_jax/readme.txt")
    # what Jupyter shows in place of a traceback
    (shown,) = error.value._render_traceback_()
    assert re.fullmatch(r"mdm_jax is not installed: [^\n]+\.", shown)


@pytest.mark.parametrize(
    ("devices", "installed", "extra"),
    [
        (["nvidia0"], (), "jax[cuda12]"),
        (["nvidia3"], ("jax-cuda13-plugin",), "jax[cuda13]"),
        (["accel0"], (), "jax[tpu]"),
        (["vfio/0"], (), "jax[tpu]"),
        (["vfio/vfio", "nvidiactl"], (), "jax"),
    ],
)
def test_the_accelerator_is_detected(install, devices, installed, extra):
    assert install(WHEEL, devices=devices, installed=installed)[1] == extra
