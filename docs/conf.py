"""Settings of the documentation site: `make docs` builds it, offline, into docs/_build/html."""

import sys
import tomllib
from pathlib import Path

import jax

# Its name in signatures, which would be jaxlib._jax.Array; set before annotations are made.
jax.Array.__name__ = "Array"

import mdm_jax  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
repository = pyproject["tool"]["mdm_jax"]["repository"]
project = pyproject["project"]["name"]
author = pyproject["project"]["authors"][0]["name"]
version = release = mdm_jax.__version__
html_title = f"mdm_jax {version}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    # in docs/_extensions
    "markdown_docstrings",
    "native_math",
]
exclude_patterns = ["_build"]

# Pages are read on the forge as well, so they use plain Markdown wherever it suffices.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "native"

autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "member-order": "bysource",
}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
}
if repository:
    html_theme_options |= {"repository_url": repository, "use_repository_button": True}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
