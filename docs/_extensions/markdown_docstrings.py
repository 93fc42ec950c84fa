"""Docstrings as Sphinx reads them: ours are plain text with a little Markdown.

Names in `backticks` are code, indented blocks are formulas or code as they stand, and a table is
written with bars. Sections such as "Args:" are left to napoleon. It is called here and not loaded
as an extension, because below a field it takes "mean of the mask: its area" for type and text.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Yields|Raises|Examples?|Note):$")
CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
# What would begin emphasis, a substitution or a reference in reStructuredText.
SPECIAL = re.compile(r"[*|\\]|(?<=\w)_(?!\w)")


def escape(text: str) -> str:
    """Text with code in double backticks, and without markup elsewhere."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts.append(SPECIAL.sub(r"\\\g<0>", text[end : match.start()]))
        parts.append(f"``{match[2].strip()}``")
        end = match.end()
    parts.append(SPECIAL.sub(r"\\\g<0>", text[end:]))
    return "".join(parts)


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def table(lines: list[str]) -> list[str]:
    """A table of bars as a list-table."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not re.fullmatch(r"[\s|:-]+", line)
    ]
    written = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for number, cell in enumerate(row):
            bullet = "   * - " if number == 0 else "     - "
            written.append(bullet + escape(cell))
    return written


def convert(lines: list[str]) -> list[str]:
    """A docstring, line by line, as reStructuredText."""
    written: list[str] = []
    in_section = False
    for block in paragraphs(lines):
        first = block[0]
        if SECTION.match(first):
            in_section = True
        elif indent_of(first) == 0:
            in_section = False
        if first.lstrip().startswith("|") and len(block) > 1:
            written += table(block)
        elif first.lstrip().startswith(">>>"):
            written += block
        elif not in_section and indent_of(first) >= 2:
            written += ["::", "", *(f"  {line}" for line in block)]
        else:
            written += escape("\n".join(block)).split("\n")
        written.append("")
    return written


def paragraphs(lines: list[str]) -> list[list[str]]:
    """The lines between blank ones."""
    found: list[list[str]] = []
    current: list[str] = []
    for line in lines:
        if line.strip():
            current.append(line)
        elif current:
            found.append(current)
            current = []
    return [*found, current] if current else found


def process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    converted = convert(lines)
    if what not in ("attribute", "data", "property"):
        settings = {"app": app, "what": what, "name": name, "obj": obj, "options": options}
        converted = GoogleDocstring(converted, Config(), **settings).lines()
    if what == "attribute" and lines and lines[0].startswith("Alias for field number"):
        converted = []  # what Python says of the fields of a NamedTuple that have no docstring
    lines[:] = converted


def hide_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: Any, returned: Any
) -> tuple[str, None] | None:
    """No signature for classes of data: their fields stand below, with types and defaults."""
    is_data = dataclasses.is_dataclass(obj) or hasattr(obj, "_fields")
    return ("", None) if what == "class" and is_data else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", hide_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
