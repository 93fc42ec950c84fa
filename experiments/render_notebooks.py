r"""Runs the notebooks of colab/ and writes what they show, as pages of the site.

    python experiments/render_notebooks.py                           # or: make notebooks
    python experiments/render_notebooks.py explain_your_photo --photo-weights WEIGHTS

A notebook itself is kept without outputs. Its page `docs/notebooks/NAME.md` has the same cells and
what they printed and drew on this machine, in small pictures. Without an accelerator that is on
small settings. With `--photo-weights`, the notebook of the photo explains a photograph by a ResNet
of ImageNet with these weights all the same; the photograph is flower.jpg by vultilion (CC BY 2.0),
which scikit-learn brings.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import PIL.Image
import PIL.ImageSequence
import tyro
from nbclient import NotebookClient

from experiments.record_results import ROOT

NOTEBOOKS = ROOT / "colab"
PAGES = ROOT / "docs" / "notebooks"
COLAB = "https://colab.research.google.com/github"
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"

# Of the pictures in pages, which are WebP and GIF: a page with its pictures has 100 to 300 kB.
WIDTH = 1100
QUALITY = 80
GIF_WIDTH = 560
GIF_COLORS = 48

PHOTO_SETTINGS = {
    'MODEL = "resnet" if SMALL else "timm/resnet50.tv_in1k"': "MODEL = {weights!r}",
    'SMALL = "MDM_JAX_SMALL" in os.environ or jax.default_backend() == "cpu"': "SMALL = False",
}
"""lines of the photo's notebook, and what stands there with `--photo-weights`"""


@dataclass(frozen=True)
class Config:
    """Which notebooks are run."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """of colab/, without .ipynb; all by default"""
    photo_weights: Path | None = None
    """folder of a network of ImageNet, for explain_your_photo"""


def main(config: Config) -> None:
    found = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for name in config.names or found:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        settings = {}
        if name == "explain_your_photo" and config.photo_weights is not None:
            settings = photo_settings(config.photo_weights)
        print(f"{name}: running", flush=True)
        written = write_page(name, notebook, execute(notebook, settings), note(settings))
        kilobytes = sum(file.stat().st_size for file in written) / 1024
        print(f"{name}: {len(written)} files, {kilobytes:.0f} kB", flush=True)


def photo_settings(weights: Path) -> dict[str, str]:
    place = str(weights.resolve())
    return {line: new.format(weights=place) for line, new in PHOTO_SETTINGS.items()}


def note(settings: dict[str, str]) -> str:
    if settings:
        return (
            "What is shown was computed on a CPU with `SMALL = False`, by a ResNet-50 whose weights"
            " were read from a folder. The photograph is by vultilion (CC BY 2.0)."
        )
    return (
        "What is shown was computed on a CPU, with the small settings that are taken there. Times"
        " and rates are no measurements: the CPU may have had other work."
    )


def execute(notebook: Any, settings: dict[str, str]) -> list[list[Any]]:
    """The outputs of every cell. Raises ValueError for settings that no cell has."""
    trial = nbformat.from_dict(notebook)
    for line, new in settings.items():
        cells = [cell for cell in trial.cells if line in cell.source]
        if len(cells) != 1:
            raise ValueError(
                f"{len(cells)} cells have the line {line!r}: mend PHOTO_SETTINGS"
            )
        cells[0].source = cells[0].source.replace(line, new)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            trial,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "IPYTHONDIR": folder}
        client.execute(env=environment)
    return [cell.get("outputs", []) for cell in trial.cells]


def write_page(name: str, notebook: Any, outputs: list[list[Any]], said: str) -> list[Path]:
    """The page of a notebook, with its pictures beside it; the files that were written."""
    pictures = PAGES / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    parts, written = [], []
    for number, (cell, shown) in enumerate(zip(notebook.cells, outputs)):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python3\n{cell.source}\n```")
        for output in shown:
            picture = save_picture(output, pictures / f"cell-{number:02d}")
            if picture is not None:
                written.append(picture)
                alternative = f"output of cell {number}"
                parts.append(f"![{alternative}]({name}/{picture.name})")
            elif text := text_of(output):
                parts.append(text)
    title, *rest = parts[0].split("\n\n", 1)
    parts[0] = "\n\n".join([title, links(name), said, *rest])
    page = PAGES / f"{name}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [page, *written]


def links(name: str) -> str:
    """Where the notebook is; a badge where Colab can open it, which is a repository on GitHub."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    repository = project["tool"]["mdm_jax"]["repository"].rstrip("/")
    text = (
        f"*The notebook is `colab/{name}.ipynb`; `experiments/render_notebooks.py` writes this"
        " page.*"
    )
    on_github = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", repository)
    if on_github is None:
        return text
    place = f"{COLAB}/{on_github[1]}/blob/main/colab/{name}.ipynb"
    return f"[![badge: open in Colab]({COLAB_BADGE})]({place})\n\n{text}"


def text_of(output: Any) -> str:
    """What a cell printed or returned, as Markdown."""
    if output.output_type == "stream":
        return f"```text\n{output.text.rstrip()}\n```"
    data = output.get("data", {})
    if "text/html" in data:
        return table(data["text/html"])
    text = data.get("text/plain", "")
    # a figure or axes whose picture is shown anyway
    is_object = text.startswith("<") or not text
    return "" if is_object else f"```text\n{text}\n```"


def table(html: str) -> str:
    """The table of a data frame, without the style that pandas gives it."""
    match = re.search(r"<table.*</table>", html, re.DOTALL)
    if match is None:
        raise ValueError("an output of HTML without a table cannot be shown in a page")
    plain = re.sub(r' (?:border|class|style)="[^"]*"', "", match[0])
    # a blank line would end it, as Markdown sees it
    return "\n".join(line.strip() for line in plain.splitlines() if line.strip())


def save_picture(output: Any, place: Path) -> Path | None:
    """The picture of an output, made small, in a file; None where it has none."""
    data = output.get("data", {})
    for kind, ending in (("image/gif", ".gif"), ("image/png", ".webp")):
        if kind in data:
            image = PIL.Image.open(io.BytesIO(base64.b64decode(data[kind])))
            file = place.with_suffix(ending)
            save_small_gif(image, file) if ending == ".gif" else save_small_picture(
                image, file
            )
            return file
    return None


def save_small_picture(image: PIL.Image.Image, file: Path) -> None:
    image = image.convert("RGB")
    if image.width > WIDTH:
        size = (WIDTH, round(image.height * WIDTH / image.width))
        image = image.resize(size, PIL.Image.Resampling.LANCZOS)
    image.save(file, quality=QUALITY, method=6)


def save_small_gif(image: PIL.Image.Image, file: Path) -> None:
    """Every second frame, and the last one, which rests."""
    frames = [frame.convert("RGB") for frame in PIL.ImageSequence.Iterator(image)]
    chosen = [*frames[:-1:2], frames[-1]]
    size = (GIF_WIDTH, round(image.height * GIF_WIDTH / image.width))
    small = []
    for frame in chosen:
        resized = frame.resize(size, PIL.Image.Resampling.LANCZOS)
        small.append(resized.quantize(GIF_COLORS, dither=PIL.Image.Dither.NONE))
    durations = [360] * (len(small) - 1) + [2500]
    small[0].save(file, save_all=True, append_images=small[1:], duration=durations, loop=0)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
