"""Pages name files and functions that exist, and their Python code is Python."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex

import pytest

from experiments.make_tables import ROOT, pages
from mdm_jax import methods
from mdm_jax.cli import parse
from mdm_jax.cli.main import USAGE, VERBS, load_verb
from mdm_jax.config import PRESETS

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
    # the files of a page do not exist
    monkeypatch.setattr(parse, "read_toml", lambda path: {})
    for line in commands(page.read_text()):
        words = shlex.split(line, comments=True)
        if words[0].startswith("-"):  # of `mdm` itself
            assert f"mdm {words[0]}" in USAGE
            continue
        verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
        options = parse.parse(load_verb(verb), f"mdm {verb}", words[len(verb.split()) :])
        for method in [getattr(options, "method", None), *getattr(options, "methods", ())]:
            # not those in files of yours, which do not exist
            if isinstance(method, str) and ".py" not in method:
                methods.configure(method)


def commands(text):
    """What follows `mdm` in the shell blocks of a page, which are fenced or indented."""
    fenced = re.findall(r"```(?:bash|shell|sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += re.findall(r"^    (.*)$", text, re.MULTILINE)
    found = [re.match(r"(?:\$ |srun )?(?:\.venv/bin/)?mdm (.*)$", line) for line in lines]
    return [match[1] for match in found if match]


def test_commands_are_found_however_they_are_written():
    text = "```bash\n.venv/bin/mdm demo\nsrun mdm run\n```\n\n    mdm sweep x.toml\n\nmdm train\n"
    assert commands(text) == ["demo", "run", "sweep x.toml"]


# The config files that pages show, in their order: the verb that takes each, and its words.
CONFIG_FILES = {
    "docs/choosing_settings.md": [("explain", ["photo.jpg"])],
    "docs/benchmarks_and_sweeps.md": [("sweep", []), ("sweep", [])],
    "docs/training.md": [("train", [])],
}


def test_config_files_of_a_page_are_understood(request, page, tmp_path):
    name = str(page.relative_to(ROOT))
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    verbs = CONFIG_FILES.get(name, [])
    assert len(blocks) == len(verbs), "say in CONFIG_FILES which command takes it"
    for text, (verb, words) in zip(blocks, verbs):
        file = tmp_path / f"{verb}.toml"
        file.write_text(text)
        options = parse.parse(
            load_verb(verb), f"mdm {verb}", [*words, "--config", str(file)]
        )
        assert options.config == file


def test_presets_of_the_page_cost_what_it_says():
    text = PAGES["docs/choosing_settings.md"].read_text()
    text = text[text.index("## Presets") : text.index("## Which node")]
    for name, config in PRESETS.items():
        in_first_cell = re.compile(rf"\| [^|]*`{name}`")
        (row,) = filter(in_first_cell.match, text.splitlines())
        views = 3 if config.schedule == "independent" else 1
        assert re.search(rf"\b{views * config.steps}\b", row), name


IMAGE = re.compile(r"!\[([^\]]*)\]\(")


def test_images_of_a_page_have_alternative_text(page):
    for text in IMAGE.findall(page.read_text()):
        assert len(text.split()) >= 2 or "badge" in text, page


def test_readme_is_a_landing_page():
    assert (ROOT / "README.md").stat().st_size <= 8000


def test_anchors_of_a_page_exist(page):
    """Links to a heading, on the page itself or on another one."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            linked = page.parent / target if target else page
            assert anchor in anchors(linked.read_text()), f"{target}#{anchor}"


def anchors(text):
    """The anchors of a page's headings, as forges and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_every_page_is_in_the_table_of_contents():
    docs = ROOT / "docs"
    listed = set()
    for index in (docs / "index.md", docs / "api" / "index.md"):
        trees = re.findall(r"```{toctree}\n(.*?)```", index.read_text(), re.DOTALL)
        names = [line for tree in trees for line in tree.splitlines() if line]
        listed |= {index.parent / f"{name}.md" for name in names if name[0] != ":"}
    written = {path for path in PAGES.values() if docs in path.parents}
    assert written - {docs / "index.md"} == listed
