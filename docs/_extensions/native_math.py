"""Formulas as MathML, which browsers draw themselves: nothing is loaded from the network.

Sphinx has MathJax, which a page loads from a server, and images, which need LaTeX. The converter is
that of docutils, on which Sphinx is built.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def convert(node: nodes.Element, as_block: bool) -> str:
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        LOGGER.warning("%s in the formula %s", error, node.astext(), location=node)
        return ""


def inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node, as_block=False))
    raise nodes.SkipNode


def display(translator: Any, node: nodes.math_block) -> None:
    formula = convert(node, as_block=True)
    translator.body.append(f'<div class="math-display">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("native", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
