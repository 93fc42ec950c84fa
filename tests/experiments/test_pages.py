"""Pages name files and functions that exist, and their Python code is Python."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex

import pytest

from experiments.make_tables import ROOT, pages
from mdm_jax.cli import parse
from mdm_jax.cli.main import VERBS, load_verb

PAGES = {str(page.relative_to(ROOT)): page for page in [*pages(), ROOT / "CONTRIBUTING.md"]}
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FILE = re.compile(
    r"\b(?:experiments|tests|colab|docs|mdm_jax)/[\w/-]+\.(?:py|toml|md|ipynb|json|png)"
)


@pytest.fixture(params=PAGES)
def page(request):
    return PAGES[request.param]


def test_files_that_a_page_names_exist(page):
    for name in FILE.findall(page.read_text()):
        assert (ROOT / name).exists(), name


def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http", "{{")):
            assert (page.parent / target).exists(), target


def test_code_of_a_page_is_python_and_names_what_exists(page):
    for code in CODE.findall(page.read_text()):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "mdm_jax"
            ):
                for alias in node.names:
                    assert resolves(f"{node.module}.{alias.name}"), ast.unparse(node)
            elif isinstance(node, ast.Attribute):
                name = ast.unparse(node)
                if re.fullmatch(r"mdm_jax(\.\w+)+", name):
                    assert resolves(name), name


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_where_is_it_has_at_most_15_rows_and_names_what_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("## Where is it?") : text.index("## Add a metric")]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert 1 < len(rows) <= 15
    for row in rows:
        for name in re.findall(r"`([\w/]+(?:\.py|\.md|/))`", row):
            assert (ROOT / "mdm_jax" / name).exists() or (ROOT / name).exists(), name


def test_commands_of_a_page_are_understood(page, monkeypatch):
    monkeypatch.setattr(
        parse, "read_toml", lambda path: {}
    )  # the files of a page do not exist
    for line in re.findall(
        r"^    (?:\.venv/bin/)?mdm (.*)$", page.read_text(), re.MULTILINE
    ):
        words = shlex.split(line, comments=True)
        verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
        parse.parse(load_verb(verb), f"mdm {verb}", words[len(verb.split()) :])


def test_config_files_of_the_readme_are_understood(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    method, training = blocks
    for verb, text, words in (("explain", method, ["photo.jpg"]), ("train", training, [])):
        file = tmp_path / f"{verb}.toml"
        file.write_text(text)
        options = parse.parse(
            load_verb(verb), f"mdm {verb}", [*words, "--config", str(file)]
        )
        assert options.config == file
