"""The pages of the notebooks have the notebooks' cells, and badges where they lead somewhere."""

from __future__ import annotations

import re

import nbformat
import pytest

from experiments import render_notebooks
from experiments.render_notebooks import NOTEBOOKS, PAGES, ROOT

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_of_the_notebook_as_it_is(name):
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    page = (PAGES / f"{name}.md").read_text()
    code = re.findall(r"```python3\n(.*?)\n```\n", page, re.DOTALL)
    assert code == [cell.source for cell in cells if cell.cell_type == "code"], (
        f"make notebooks: the page of {name} is older than the notebook"
    )
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    for text in texts[1:]:
        assert text in page, (
            f"make notebooks: the page of {name} is older than the notebook"
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_pictures_and_is_small(name):
    page = PAGES / f"{name}.md"
    shown = re.findall(rf"!\[[^\]]+\]\(({name}/[\w.-]+)\)", page.read_text())
    files = [PAGES / each for each in shown]
    assert files
    assert {*files} == {*(PAGES / name).iterdir()}
    assert sum(file.stat().st_size for file in [page, *files]) < 300_000


def test_pages_name_no_machine():
    for page in PAGES.glob("*.md"):
        assert not re.search(r"/(work|tmp|home|root)\b|Traceback|Warning", page.read_text())


def test_a_badge_is_there_where_it_leads_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(render_notebooks, "ROOT", tmp_path)

    def links(repository):
        text = f'[tool.mdm_jax]\nrepository = "{repository}"\n'
        (tmp_path / "pyproject.toml").write_text(text)
        return render_notebooks.links("dataset_on_tpu")

    assert "](http" not in links("")
    assert "](http" not in links("https://forge.example/owner/name")
    opened = "research.google.com/github/owner/name/blob/main/colab/dataset_on_tpu.ipynb"
    assert f"{opened})" in links("https://github.com/owner/name/")


def test_no_badge_is_written_by_hand():
    badges = re.compile(r"colab-badge|research\.google\.com/github/\w")
    pages = [ROOT / "README.md", NOTEBOOKS / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in [*pages, *NOTEBOOKS.glob("*.ipynb")]:
        assert not badges.search(page.read_text()), page
