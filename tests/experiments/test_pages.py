"""Pages name files and functions that exist, and their Python code is Python."""

from __future__ import annotations

import ast
import pkgutil
import re

import pytest

from experiments.make_tables import ROOT, pages

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
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mdm_jax"):
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
