"""What `mdm prototypes` does, without the command line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mdm_jax.cli.explain import Result, finite
from mdm_jax.config import MDMConfig
from mdm_jax.data import open_source
from mdm_jax.data.fingerprint import source_fingerprint
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.data.source import Source, read_image
from mdm_jax.errors import InputError
from mdm_jax.images import printable
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import network_fingerprint
from mdm_jax.models.pretrained import EMBEDDED, load_model
from mdm_jax.progress import Progress, task
from mdm_jax.prototypes import regions, tables
from mdm_jax.prototypes.image_sets import TEST, TRAIN, ImageRef, ImageSets
from mdm_jax.prototypes.reasoning import last_layer
from mdm_jax.prototypes.region_store import SETTINGS, RegionStore, check_folder
from mdm_jax.prototypes.search import prototype_classes
from mdm_jax.prototypes.survey import (
    Decision,
    Survey,
    all_pairs,
    find_origins,
    search_regions,
    survey_decisions,
)
from mdm_jax.storage import arrays, part_names, workspace
from mdm_jax.training.prototypes import record
from mdm_jax.views import explanation_figures, prototype_figures
from mdm_jax.views.pages import prototype_page

WITH_MDM = ("mdm", "mdm_frozen")
FIRST = ("mdm", "activation_map", "occurrence_map", "receptive_field", "grad_cam", "mdm_frozen")
"""regions in the order in which they are shown; others that are asked for come after"""

STOPPED = "stopped: the regions that were found are kept, and the same command goes on from there"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `mdm prototypes` was asked; the fields are those of the command."""

    model: str
    data: str | None
    train_split: str | None
    split: str
    images: int
    top: int
    nearest: int
    limit: int | None
    regions: tuple[str, ...]
    share: float
    image_size: int | None
    dtype: str
    mdm: MDMConfig
    seed: int
    micro_batch: int | None
    out: Path

    def check(self) -> None:
        """Raises InputError for a number out of range."""
        for name, least in (("images", 0), ("top", 1), ("nearest", 0), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name} is {value}: give a whole number from {least}")
        if not 0 < self.share < 1:
            raise InputError(
                f"--share is {self.share}: give a share of the image between 0 and 1, such as 0.1"
            )


def prototypes(request: Request, progress: Progress) -> Result:
    """Survey a network's prototypes and write everything into `request.out`; a row for each image
    that is reasoned about.

    Raises InputError for a network without prototypes, images that are not there, or a folder that
    holds something else."""
    request.check()
    check_folder(request.out)
    classifier = load_model(request.model, image_size=request.image_size, dtype=request.dtype)
    shape = (*classifier.preprocessing.size, classifier.preprocessing.channels)
    names = _regions(request.regions, regions.applicable_regions(classifier, shape))
    last_layer(classifier)
    told = record.read(_folder(request.model))
    data = request.data or (told.source if told else "digits")
    if told is not None and (was := _is_cropped(told.source)) != _is_cropped(data):
        better = f"cropped:{data}" if was else data.removeprefix("cropped:")
        raise InputError(
            f"the network was trained on images {'' if was else 'not '}cut to their boxes: give"
            f" --data {better}"
        )
    splits = {TRAIN: request.train_split or (told.split if told else "train"), TEST: request.split}
    album = ImageSets(
        {part: open_source(data, split) for part, split in splits.items()}, classifier
    )
    if told is not None:
        _check_record(told, album, classifier, data, progress)
    start = time.perf_counter()
    with workspace.open_workspace(request.out, "prototype search") as out:
        of_data = {
            part: {"split": splits[part]} | source_fingerprint(album.sources[part])
            for part in splits
        }
        settings = {"network": network_fingerprint(classifier), "data": data, **of_data}
        workspace.record_settings(out, SETTINGS, settings, "a prototype search")
        asked: dict[str, Any] = {
            "count": request.nearest,
            "limit": request.limit,
            "settings": settings,
        }
        found, notes = find_origins(classifier, album, told, out, **asked, progress=progress)
        items = [
            ImageRef(TEST, index)
            for index in evenly_spaced(len(album.sources[TEST]), request.images)
        ]
        decisions, unread = survey_decisions(
            classifier, album, items, rows=request.top, progress=progress
        )
        kept, configs = {}, {}
        for name in names:
            configs[name] = request.mdm if name in WITH_MDM else None
            settings_of = {
                "seed": request.seed,
                "config": part_names.describe(configs[name]),
                "node": part_names.describe(regions.default_node(name)),
            }
            defaults = part_names.defaults_of(configs[name], "config.")
            kept[name] = RegionStore(out, name, settings_of, defaults)
        how: dict[str, Any] = {
            "configs": configs,
            "key": request.seed,
            "micro_batch": request.micro_batch,
        }
        try:
            count, missed = search_regions(
                classifier, album, kept, all_pairs(found, decisions), **how, progress=progress
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        survey = Survey(
            classifier,
            album,
            found,
            decisions,
            kept,
            tuple(dict.fromkeys([*notes, *unread, *missed])),
        )
        files = [
            *tables.write_tables(survey, out),
            *write_figures(survey, out, request.share, progress),
        ]
        count_of = len(album.sources[TRAIN])
        shown = {
            "network": classifier.name,
            "data": data,
            "splits": f"{splits[TRAIN]} for prototypes, {splits[TEST]} for decisions",
            "nearest images": f"among {min(request.limit or count_of, count_of)} training images",
            "MDM": (
                f"of the {regions.MDM_NODE}, "
                + ", ".join(
                    f"{name} {getattr(request.mdm, name)}" for name in ("steps", "sizes", "fill")
                )
            ),
            "seed": request.seed,
        }
        files.insert(
            0,
            prototype_page.write_page(
                survey, out, share=request.share, settings=shown, progress=progress
            ),
        )
    seconds = time.perf_counter() - start
    summary = (
        f"{len(found)} prototypes of {classifier.name}, {count} regions found in {seconds:.1f} s"
        f" ({len(survey.pairs) * len(kept) - count} were there); open the page in a browser"
    )
    summary += "".join(f"\n  {note}" for note in survey.notes)
    return Result(
        [_row(each, survey) for each in decisions], summary, [printable(file) for file in files]
    )


def _folder(model: str) -> Path:
    """Where the record of the push lies, if there is one: beside the weights."""
    place = EMBEDDED.get(model, Path(model))
    return place.parent if place.is_file() or place.name == "checkpoints" else place


def _regions(asked: tuple[str, ...], suitable: tuple[str, ...]) -> tuple[str, ...]:
    """The ways of finding regions, in order. Raises InputError for one that does not exist, or that
    the network has not."""
    for name in asked:
        regions.resolve(name)
        if name in regions.REGIONS and name not in suitable:
            raise InputError(f"this network has no {name}: choose from {', '.join(suitable)}")
    if len(set(asked)) < len(asked):
        raise InputError("a region is given twice in --regions: give each once")
    return asked or tuple(name for name in FIRST if name in suitable)


def _is_cropped(data: str) -> bool:
    return data.startswith("cropped:")


def _check_record(
    told: record.PushRecord, album: ImageSets, classifier: Classifier, data: str, progress: Progress
) -> None:
    """Raises InputError where the record is of another network, or the images that it names are not
    in the data."""
    source, hint = album.sources[TRAIN], "give the --data and --train-split of the training"
    classes, (kernel, _) = prototype_classes(classifier), last_layer(classifier)
    if len(told.pushed) != len(kernel):
        raise InputError(
            f"prototypes.json tells of {len(told.pushed)} prototypes, the network has"
            f" {len(kernel)}: they are of different trainings"
        )
    for each in told.pushed:
        if classes is not None and each.class_index != classes[each.prototype]:
            raise InputError(
                f"prototype {each.prototype} is of class {each.class_index} by prototypes.json, of"
                f" class {classes[each.prototype]} by the network: they are of different trainings"
            )
        if each.item is not None and each.item >= len(source):
            raise InputError(
                f"prototype {each.prototype} is from item {each.item}, {data} has {len(source)}"
                f" items: {hint}"
            )
    id_of = lru_cache(None)(partial(_id_of, source))  # several prototypes may be of one image
    with task(progress, "checking the training images of the prototypes", len(told.pushed)) as done:
        for each in told.pushed:
            if each.item is not None:
                found = id_of(each.item)
                if found not in (each.id, None):
                    raise InputError(
                        f"prototype {each.prototype} is from {each.id}, where {data} now has"
                        f" {found}: {hint}"
                    )
            done(each.prototype + 1)


def _id_of(source: Source, item: int) -> str | None:
    """None for an item that cannot be read, which is said where it is drawn."""
    try:
        return read_image(source, item).id
    except InputError:
        return None


def write_figures(survey: Survey, out: Path, share: float, progress: Progress) -> list[Path]:
    """A figure "this looks like that" for each decision, with the regions of the first way of
    finding them."""
    (out / "figures").mkdir(exist_ok=True)
    for old in (out / "figures").glob("*.png"):
        old.unlink()
    name, kept = next(iter(survey.regions.items()))
    title = prototype_page.title_of(name)[0]
    files = []
    with task(progress, "drawing figures", len(survey.decisions)) as done:
        for number, decision in enumerate(survey.decisions):
            drawn = draw(
                survey,
                decision,
                kept,
                share=share,
                how=title if title.isupper() else f"the {title}",
            )
            said = survey.classifier.class_names[decision.reasoning.target]
            files.append(
                out
                / "figures"
                / f"{number:03d}-{arrays.file_name(prototype_figures.shorten(said))}.png"
            )
            explanation_figures.save(drawn, files[-1])
            done(number + 1)
    return files


def draw(survey: Survey, decision: Decision, kept: RegionStore, *, share: float, how: str) -> Any:
    """The figure of one decision."""
    names, sources = (
        survey.classifier.class_names,
        [survey.prototypes[row.prototype].source for row in decision.sum.rows],
    )
    here = kept.maps(decision.pairs)
    looks = []
    for row, region, source in zip(decision.sum.rows, here, sources):
        seen = next(
            (seen for _, seen in survey.album.readable([source.item] if source else [], [])), None
        )
        there = next(kept.maps([source])) if source and seen else None
        label = _named(seen.classes, names) if seen else ""
        class_index = survey.prototypes[row.prototype].class_index
        whose = "" if class_index is None else names[class_index]
        looks.append(
            prototype_figures.LookAlike(
                row, whose, region, seen.image if seen else None, there, label
            )
        )
    rival = decision.rival
    return prototype_figures.this_looks_like_that(
        survey.album.read(decision.item).image,
        looks,
        decision.sum,
        says=names[decision.reasoning.target],
        label=_named(decision.classes, names),
        share=share,
        how=how,
        rival=None if rival is None else (names[rival[0]], rival[1]),
        multi_label=decision.multi_label,
    )


def _named(classes: tuple[int, ...] | None, names: tuple[str, ...]) -> str:
    """True classes as text, "" where there are none or they are not known."""
    return ", ".join(names[number].partition(",")[0] for number in classes or ())


def _row(each: Decision, survey: Survey) -> dict[str, Any]:
    names = survey.classifier.class_names
    first = each.sum.rows[0]
    return {
        "image": each.id,
        "is": _named(each.classes, names) or None,
        "says": names[each.reasoning.target],
        "score": finite(each.reasoning.logit),
        "most points": first.points,
        "from prototype": first.prototype,
    }
