"""The page of a prototype search; it opens from file:// and loads nothing from elsewhere.

index.html, assets/       the page and its scripts
data/index.js             prototypes, decisions and their numbers
data/REGION/CCCCC.js      maps of a way of finding regions, a block of pairs a file, loaded when
                          one of them is shown
images/                   every image that is shown
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib import colormaps

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.progress import Progress, task
from mdm_jax.prototypes.image_sets import ImageRef, ImageSets, Pair
from mdm_jax.prototypes.region_store import SETTINGS, RegionStore
from mdm_jax.prototypes.retained_similarity import RETAINED_AREA
from mdm_jax.prototypes.survey import Decision, Prototype, Survey
from mdm_jax.storage import claims
from mdm_jax.views.pages import maps, pictures
from mdm_jax.views.pages.columns import pack, script_call
from mdm_jax.views.prototype_figures import COLORS

FOLDERS = ("data", "images", "assets")
STATIC = resources.files("mdm_jax.views.pages") / "static"
SCRIPTS = (STATIC / "prototypes" / "scripts.txt").read_text(encoding="utf-8").split()
ASSETS = ("page.css", "prototypes.css", *SCRIPTS)
PAGE = (
    *("index.html", "data/index.js", f"data/*/{claims.NUMBER}.js"),
    *(
        f"images/[0-9]{claims.NUMBER}.{pictures.SUFFIX}",
        *(f"assets/{each}" for each in ASSETS),
    ),
)

# Of decisions: three digits and a class.
FIGURES = ("figures/[0-9][0-9][0-9]-*.png",)
SEARCH = claims.Kind(
    "prototype search",
    (
        *(SETTINGS, "nearest.npz", "nearest_own.npz", "regions/*/region.json"),
        *(f"regions/*/maps-{claims.NUMBER}.npz", "prototypes.json", "prototypes.parquet"),
        *(*FIGURES, ".lock", claims.options_file("prototypes")),
    ),
    lambda folder: _is_search(folder),
    alone=True,
)

# By which a page of an earlier version is known.
GENERATOR = '<meta name="generator" content="mdm prototypes">'
PROTOTYPE_PAGE = claims.Kind(
    "page of prototypes",
    PAGE,
    lambda folder: (
        _is_search(folder) or claims.begins_with(folder / "index.html", GENERATOR)
    ),
)

# Map data of a block of pairs.
BLOCK_BYTES = 196_608

# What a way of finding regions is called, and what it shows, for a person who does not know the
# method.
REGIONS = {
    "mdm": (
        "MDM",
        "a small part that alone keeps the distance to the prototype, learned by masking the image",
    ),
    "mdm_frozen": (
        "MDM, one place",
        "as MDM, with the place that wins in the whole image held fixed",
    ),
    "activation_map": (
        "Activation map",
        (
            "the similarity at every place of the small feature map, enlarged; dashed, the box that"
            " is usually shown"
        ),
    ),
    "cell": (
        "Cell",
        "the one place of the small feature map that is most alike, enlarged to the image",
    ),
    "receptive_field": (
        "Receptive field",
        "every pixel that can change the similarity at the place that wins",
    ),
    "occurrence_map": (
        "Occurrence map",
        "where the network itself says that the prototype occurs, enlarged to the image",
    ),
    "grad_cam": (
        "Grad-CAM",
        "where the feature map pushes the similarity up, by its gradient",
    ),
}

# Shown with the box around all that lies above its 95th percentile, as the network's authors show
# it.
BOXED_REGIONS = ("activation_map",)


def _is_search(folder: Path) -> bool:
    names = ("network.weights", "train.split", "test.split")
    return claims.has_settings(folder / SETTINGS, names)


def title_of(region: str) -> tuple[str, str]:
    """What a way of finding regions is called, and what it shows."""
    return REGIONS.get(
        region, (region, f"the method {region} at the prototype's similarity")
    )


def write_page(
    survey: Survey,
    out: Path,
    *,
    share: float,
    settings: dict[str, Any],
    progress: Progress,
) -> Path:
    """Write the page into a folder, over one that is there; returns its path.

    `share` of an image lies within its outline at first. An image that cannot be read is shown as
    that. Raises InputError where the folder cannot be written, or files in it would be lost."""
    page = out / "index.html"
    pairs = survey.pairs
    # decisions first, so that their images have the lowest numbers
    items = list(
        dict.fromkeys(
            [each.item for each in survey.decisions] + [pair.item for pair in pairs]
        )
    )
    total = len(items) + len(pairs) * len(survey.regions)
    claims.claim(out, PROTOTYPE_PAGE)
    try:
        claims.clear(out, PAGE)  # the page first: none while its data are incomplete
        for folder in FOLDERS:
            (out / folder).mkdir(parents=True, exist_ok=True)
        with task(progress, "drawing the page", total) as done:
            images = []
            for number, item in enumerate(items):
                done(number)
                images.append(_write_image(survey.album, item, number, out))
            blocks = _write_maps(survey, pairs, out, lambda count: done(len(items) + count))
        index = _index(survey, pairs, items, blocks)
        index |= {
            "images": images,
            "share": round(100 * share),
            "settings": settings,
        }
        (out / "data" / "index.js").write_bytes(script_call("Mdm.receive", index))
        _write_assets(survey, out)
    except OSError as error:
        raise InputError(
            f"cannot write the page to {printable(out)} ({error.strerror}): make room or choose"
            " another folder",
            setting="out",
        ) from error
    return page


class _Blocks(NamedTuple):
    """How maps are laid out in files."""

    cells: tuple[int, int]
    """(height, width) of a map"""
    pairs: int
    """in a file"""


def _write_image(
    album: ImageSets, item: ImageRef, number: int, out: Path
) -> dict[str, Any]:
    """Write one image's file; the image as the page knows it."""
    try:
        seen = album.read(item)
    except InputError as error:
        return {
            "id": f"{item.part} {item.number}",
            "classes": None,
            "missing": str(error),
        }
    (out / "images" / f"{number:06d}.{pictures.SUFFIX}").write_bytes(
        pictures.encode_jpeg(seen.image)
    )
    return {"id": seen.id, "classes": seen.classes}


def _write_maps(
    survey: Survey, pairs: list[Pair], out: Path, done: Callable[[int], None]
) -> _Blocks:
    """Write the maps of every pair."""
    shape = survey.album.shape[:2]
    cells = maps.reduced_size(shape)
    block = max(8, BLOCK_BYTES // (8 + cells[0] * cells[1]))
    missing = np.full(shape, np.nan, np.float32)
    written = 0
    for name, kept in survey.regions.items():
        folder = out / "data" / name
        folder.mkdir()
        for start in range(0, len(pairs), block):
            part = pairs[start : start + block]
            found = np.stack(
                [missing if each is None else each for each in kept.maps(part)]
            )
            packs = maps.quantize(maps.reduce_maps(found))
            number = start // block
            text = script_call("Mdm.take", name, number, pack(packs))
            (folder / f"{number:05d}.js").write_bytes(text)
            written += len(part)
            done(written)
    return _Blocks(cells, block)


def _index(
    survey: Survey, pairs: list[Pair], items: list[ImageRef], blocks: _Blocks
) -> dict[str, Any]:
    """What the page knows of prototypes, decisions and pairs, which name each other by number."""
    place = {pair: number for number, pair in enumerate(pairs)}
    where = {item: number for number, item in enumerate(items)}
    colors = colormaps["inferno"](np.arange(256))[:, :3]
    listed = [
        {"image": where[pair.item], "similarity": similarity}
        for pair, similarity in zip(pairs, survey.similarities(pairs))
    ]
    return {
        "classes": survey.classifier.class_names,
        "size": survey.album.shape[:2],
        "cells": blocks.cells,
        "block": blocks.pairs,
        "suffix": pictures.SUFFIX,
        "keptArea": RETAINED_AREA,
        "palette": COLORS,
        "colors": pack(np.round(colors * 255).astype(np.uint8)),
        "pairs": listed,
        "regions": [_region(name, kept, pairs) for name, kept in survey.regions.items()],
        "prototypes": [_prototype(each, place) for each in survey.prototypes],
        "decisions": [_decision(each, place, where) for each in survey.decisions],
        "notes": survey.notes,
    }


def _region(name: str, kept: RegionStore, pairs: list[Pair]) -> dict[str, Any]:
    """A way of finding regions, and a number or a box for each pair (None where there is none)."""
    title, about = title_of(name)
    numbers = kept.numbers(pairs)
    there = np.flatnonzero(numbers["there"])
    columns: dict[str, np.ndarray] = {}
    if len(there):
        whole = numbers["similarity"]
        # of a prototype that is not similar at all nothing can be kept
        whole = np.where(whole > 0, whole, np.nan)
        columns["kept"] = numbers["retained"] / whole
        columns["blurred"] = numbers["blurred"] / whole
        if name in BOXED_REGIONS:
            columns["boxes"] = numbers["box"]
    region: dict[str, Any] = {"key": name, "title": title, "about": about}
    for column, values in columns.items():
        listed: list[Any] = [None] * len(pairs)
        for place, value in zip(there, values):
            if np.isfinite(value).all():
                listed[place] = value.tolist()
        region[column] = listed
    return region


def _prototype(each: Prototype, place: dict[Pair, int]) -> dict[str, Any]:
    return {
        "number": each.number,
        "class": each.class_index,
        "weight": each.weight,
        "source": None if each.source is None else place[each.source],
        "position": each.position,
        "nearest": [place[pair] for pair in each.nearest],
        "note": each.note,
    }


def _decision(
    each: Decision, place: dict[Pair, int], where: dict[ImageRef, int]
) -> dict[str, Any]:
    rows = [
        row._asdict() | {"pair": place[pair]}
        for row, pair in zip(each.sum.rows, each.pairs)
    ]
    decision = each.sum._asdict() | {"rows": rows}
    return decision | {
        "image": where[each.item],
        "classes": each.classes,
        "prediction": each.reasoning.prediction,
        "target": each.reasoning.target,
        "rival": each.rival,
        "multiLabel": each.multi_label,
    }


def _write_assets(survey: Survey, out: Path) -> None:
    """What the page is drawn with, and last the page itself: whoever sees it sees a whole one."""
    ours, shared = STATIC / "prototypes", STATIC / "report"
    for name in ASSETS:
        # the page of runs holds what both pages share
        found = ours / name if (ours / name).is_file() else shared / name
        (out / "assets" / name).write_bytes(found.read_bytes())
    template = (ours / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template)
    classes = {each.class_index for each in survey.prototypes}
    text = page.render(
        name=survey.classifier.name,
        prototypes=len(survey.prototypes),
        classes=len(classes),
        scripts=SCRIPTS,
    )
    (out / "index.html").write_text(text, encoding="utf-8")
