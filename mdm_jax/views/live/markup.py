"""What the page shows, as HTML: names of classes and files stay text."""

from __future__ import annotations

import base64
import html

from mdm_jax.text_files import printable
from mdm_jax.views.live.pictures import Facts

# What stands where there is no picture yet, or none for this method: a transparent one.
NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def figure(picture: bytes | None, caption: str) -> str:
    """A picture in the page itself, with its caption."""
    source = NO_PICTURE
    if picture is not None:
        source = "data:image/png;base64," + base64.b64encode(picture).decode()
    image = f'<img src="{source}" alt="{_text(caption)}">'
    return f"<figure>{image}<figcaption>{_text(caption)}</figcaption></figure>"


def heading(title: str, subtitle: str) -> str:
    """The photograph's name and the network's."""
    return f"<h1>{_text(title)}</h1><p>{_text(subtitle)}</p>"


def line(sentence: str, *, is_warning: bool = False) -> str:
    """A sentence on what goes on, or what went wrong."""
    kind = "warning" if is_warning else "note"
    return f'<p class="{kind}" role="status">{_text(sentence)}</p>'


def table(facts: Facts) -> str:
    """An answer's facts, its warning first."""
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in facts.rows
    )
    warning = ""
    if facts.warning is not None:
        warning = f'<p class="warning">{_text(facts.warning)}</p>'
    return f"{warning}<table>{rows}</table>"


def _text(text: str) -> str:
    return html.escape(printable(text))
