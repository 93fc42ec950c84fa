"""The page of a prototype search: it opens from file://, without a server, and loads nothing from
elsewhere.

index.html  assets/          the page: what it is drawn with data/index.js
prototypes, decisions and their numbers data/REGION/CCCCC.js         maps of a way of finding
regions, a block of pairs a file, loaded when one of them is shown images/
every image that is shown"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib import colormaps

from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.progress import Progress, task
from mdm_jax.prototypes.image_sets import ImageRef, ImageSets, Pair
from mdm_jax.prototypes.region_store import RegionStore
from mdm_jax.prototypes.survey import RETAINED_AREA, Decision, Prototype, Survey
from mdm_jax.views.pages import maps, pictures
from mdm_jax.views.pages.columns import pack, script_call
from mdm_jax.views.prototype_figures import COLORS

FOLDERS = ("data", "images", "assets")
BLOCK_BYTES = 196_608
"""map data of a block of pairs"""
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
    "grad_cam": ("Grad-CAM", "where the feature map pushes the similarity up, by its gradient"),
}
"""what a way of finding regions is called, and what it shows, for a person who does not know the
method"""
BOXED_REGIONS = ("activation_map",)
"""shown with the box around all that lies above its 95th percentile, as the network's authors show
it"""


def title_of(region: str) -> tuple[str, str]:
    """What a way of finding regions is called, and what it shows."""
    return REGIONS.get(region, (region, f"the method {region} at the prototype's similarity"))


def write_page(
    survey: Survey, out: Path, *, share: float, settings: dict[str, Any], progress: Progress
) -> Path:
    """Write the page into a folder, over one that is there; returns its path. `share` is what
    outlines show at first.

    An image that cannot be read is shown as that. Raises InputError where the folder cannot be
    written."""
    page = out / "index.html"
    try:
        page.unlink(missing_ok=True)  # no page while its data are incomplete
        for part in FOLDERS:
            if (out / part).exists():
                shutil.rmtree(out / part)
            (out / part).mkdir(parents=True)
        pairs = survey.pairs
        items = list(
            dict.fromkeys(
                [*(each.item for each in survey.decisions), *(pair.item for pair in pairs)]
            )
        )
        with task(
            progress, "drawing the page", len(items) + len(pairs) * len(survey.regions)
        ) as done:
            images = [
                _write_image(survey.album, item, number, out)
                for number, item in enumerate(items)
                if _tell(done, number)
            ]
            cells, block = _write_maps(survey, pairs, out, lambda count: done(len(items) + count))
        index = _index(survey, pairs, items, images, cells, block, share, settings)
        (out / "data" / "index.js").write_bytes(script_call("Mdm.receive", index))
        _write_assets(survey, out)
    except OSError as error:
        raise InputError(
            f"cannot write the page to {printable(out)} ({error.strerror}): make room or choose"
            " another --out"
        ) from error
    return page


def _tell(done: Any, number: int) -> bool:
    done(number)
    return True


def _write_image(album: ImageSets, item: ImageRef, number: int, out: Path) -> dict[str, Any]:
    """Write one image's file; the image as the page knows it."""
    try:
        seen = album.read(item)
    except InputError as error:
        return {"id": f"{item.part} {item.number}", "classes": None, "missing": str(error)}
    (out / "images" / f"{number:06d}.{pictures.SUFFIX}").write_bytes(
        pictures.encode_jpeg(seen.image)
    )
    return {"id": seen.id, "classes": seen.classes}


def _write_maps(
    survey: Survey, pairs: list[Pair], out: Path, done: Any
) -> tuple[tuple[int, int], int]:
    """Write the maps of every pair; the cells of a map and the pairs of a block."""
    shape = survey.album.shape[:2]
    cells = maps.reduced_size(shape)
    block = max(8, BLOCK_BYTES // (8 + cells[0] * cells[1]))
    written = 0
    for name, kept in survey.regions.items():
        (out / "data" / name).mkdir()
        for start in range(0, len(pairs), block):
            part = pairs[start : start + block]
            empty = np.full(shape, np.nan, np.float32)
            found = np.stack([empty if each is None else each for each in kept.maps(part)])
            packs = maps.quantize(maps.reduce_maps(found))
            path = out / "data" / name / f"{start // block:05d}.js"
            path.write_bytes(script_call("Mdm.take", name, start // block, pack(packs)))
            written += len(part)
            done(written)
    return cells, block


def _index(
    survey: Survey,
    pairs: list[Pair],
    items: list[ImageRef],
    images: list[dict[str, Any]],
    cells: tuple[int, int],
    block: int,
    share: float,
    settings: dict[str, Any],
) -> dict[str, Any]:
    place = {pair: number for number, pair in enumerate(pairs)}
    where = {item: number for number, item in enumerate(items)}
    return {
        "classes": survey.classifier.class_names,
        "size": survey.album.shape[:2],
        "cells": cells,
        "block": block,
        "suffix": pictures.SUFFIX,
        "share": round(100 * share),
        "keptArea": RETAINED_AREA,
        "palette": COLORS,
        "colors": pack(
            np.round(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)
        ),
        "images": images,
        "pairs": [
            {"image": where[pair.item], "similarity": each}
            for pair, each in zip(pairs, survey.similarities(pairs))
        ],
        "regions": [_region(name, kept, pairs) for name, kept in survey.regions.items()],
        "prototypes": [_prototype(each, place) for each in survey.prototypes],
        "decisions": [_decision(each, place, where) for each in survey.decisions],
        "notes": survey.notes,
        "settings": settings,
    }


def _region(name: str, kept: RegionStore, pairs: list[Pair]) -> dict[str, Any]:
    title, about = title_of(name)
    numbers = kept.numbers(pairs)
    there = np.flatnonzero(numbers["there"])
    told: dict[str, Any] = {"key": name, "title": title, "about": about}
    whole = numbers.get("similarity", np.empty(0))
    whole = np.where(whole > 0, whole, np.nan)  # of what is not alike nothing can be kept
    columns = {
        name: numbers[column] / whole
        for name, column in (("kept", "retained"), ("blurred", "blurred"))
        if len(there)
    }
    if name in BOXED_REGIONS and len(there):
        columns["boxes"] = numbers["box"]
    for column, values in columns.items():
        listed: list[Any] = [None] * len(pairs)
        for place, value in zip(there, values):
            listed[place] = value.tolist() if np.isfinite(value).all() else None
        told[column] = listed
    return told


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


def _decision(each: Decision, place: dict[Pair, int], where: dict[ImageRef, int]) -> dict[str, Any]:
    rows = [row._asdict() | {"pair": place[pair]} for row, pair in zip(each.sum.rows, each.pairs)]
    told = each.sum._asdict() | {"rows": rows}
    return told | {
        "image": where[each.item],
        "classes": each.classes,
        "prediction": each.reasoning.prediction,
        "target": each.reasoning.target,
        "rival": each.rival,
        "multiLabel": each.multi_label,
    }


def _write_assets(survey: Survey, out: Path) -> None:
    """What the page is drawn with, and last the page itself: whoever sees it sees a whole one."""
    static = resources.files("mdm_jax.views.pages") / "static"
    ours, shared = static / "prototypes", static / "report"
    scripts = (ours / "scripts.txt").read_text(encoding="utf-8").split()
    for name in ("page.css", "prototypes.css", *scripts):
        found = ours / name if (ours / name).is_file() else shared / name
        (out / "assets" / name).write_bytes(found.read_bytes())
    template = (ours / "page.html.jinja").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        template
    )
    classes = {each.class_index for each in survey.prototypes}
    text = page.render(
        name=survey.classifier.name,
        prototypes=len(survey.prototypes),
        classes=len(classes),
        scripts=scripts,
    )
    (out / "index.html").write_text(text, encoding="utf-8")
