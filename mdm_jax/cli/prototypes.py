"""`mdm prototypes`: what the prototypes of a network are, where they lie, and how they decide."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from mdm_jax.cli.console import Result, Terminal, finite
from mdm_jax.cli.decision_figures import name_classes, write_figures
from mdm_jax.cli.options import (
    ComputeOptions,
    MDMSettings,
    Options,
    describe_presets,
    positional,
    recorded_data,
)
from mdm_jax.cli.push_record import check_record, record_folder
from mdm_jax.config import PRESETS, MDMConfig, PresetName
from mdm_jax.config_files import build
from mdm_jax.data.fingerprint import source_fingerprint
from mdm_jax.data.network_input import evenly_spaced
from mdm_jax.data.reading import DataReading
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.fingerprint import argument_defaults, network_fingerprint
from mdm_jax.models.spec import ModelSpec
from mdm_jax.prototypes import regions, tables
from mdm_jax.prototypes.image_sets import TEST, TRAIN, ImageRef, ImageSets
from mdm_jax.prototypes.reasoning import last_layer
from mdm_jax.prototypes.region_store import SETTINGS, RegionStore
from mdm_jax.prototypes.survey import (
    Decision,
    Survey,
    all_pairs,
    find_origins,
    search_regions,
    survey_decisions,
)
from mdm_jax.storage import claims, part_names, workspace
from mdm_jax.training.prototypes import record
from mdm_jax.training.prototypes.record import PushRecord
from mdm_jax.views.pages import prototype_page
from mdm_jax.views.pages.prototype_page import SEARCH

# Regions that take the settings of MDM.
MDM_REGIONS = ("mdm", "mdm_frozen")

# Regions in the order in which they are shown; others that are given come after.
REGION_ORDER = (
    "mdm",
    "activation_map",
    "occurrence_map",
    "receptive_field",
    "grad_cam",
    "mdm_frozen",
)

# A preset of its own for the node of a prototype, whose values have another range than a class.
NODE_PRESETS: dict[str, MDMConfig] = {"node": regions.NODE_MDM, **PRESETS}
NodePresetName = Literal["node", PresetName]
# What --quick takes where nothing else is asked for, and the regions beside those of MDM.
QUICK: dict[str, Any] = {"images": 4, "top": 3, "nearest": 0, "limit": 500}
QUICK_REGIONS = ("mdm", "activation_map", "occurrence_map")
# So many take minutes.
MANY_REGIONS = 200
STOPPED = (
    "stopped: the regions that were found are kept, and the same command goes on from there"
)


@dataclass(frozen=True, kw_only=True)
class PrototypesCommand(ModelSpec, DataReading, MDMSettings, ComputeOptions, Options):
    """What the prototypes of a ProtoPNet or XProtoNet are, and how they decide.

    Each prototype is shown in the training image that it comes from and in those most like it; for
    test images, "this looks like that": similarity x weight = points, which add up to the logit.

    OUT holds a page that opens in any browser (index.html), a figure for each test image,
    prototypes.json, prototypes.parquet and every region as an array. The same command again
    computes only what is missing; more images, regions or nearest images cost only themselves.

    Examples:
      mdm prototypes protopnet --quick
      mdm prototypes protopnet
      mdm prototypes runs/birds --data folder:birds --images 40 --out runs/birds-prototypes
      mdm prototypes runs/birds --regions mdm activation_map --nearest 0
      mdm prototypes runs/xrays --data folder:xrays --preset paper --top 3
    """

    model: Annotated[tyro.conf.Positional[str | None], positional("MODEL")] = None
    """the network: folder of a training, hub id, or an embedded one by name (protopnet,
    xprotonet)"""
    data: Annotated[
        str | None, recorded_data("that of the training when not given, else digits")
    ] = None
    train_split: str | None = None
    """split that the prototypes come from; that of the training when not given"""
    split: str = "test"
    """split of the images that are reasoned about"""
    images: int = 12
    """images that are reasoned about, spread evenly over their split"""
    top: int = 5
    """prototypes in the reasoning about an image; all others are one row"""
    nearest: int = 3
    """training images most like each prototype; 0 searches none"""
    limit: int | None = 5000
    """training images among which they are searched, spread evenly over the split; None
    searches all"""
    regions: tuple[str, ...] = ()
    """how regions are found, such as mdm activation_map receptive_field grad_cam; all that suit the
    network when not given. Figures take the first"""
    quick: bool = False
    """a first look: 4 images, 3 prototypes in the reasoning about each, no nearest images, and the
    regions of these prototypes alone by MDM and the network's own map; options that are given win.
    The same command without it goes on from there"""
    share: float = 0.1
    """share of an image that lies within the outline of a region"""
    preset: Annotated[
        NodePresetName, tyro.conf.arg(help=describe_presets(NODE_PRESETS))
    ] = "node"
    out: Path = Path("mdm-prototypes")
    """folder of the results"""

    def run(self, terminal: Terminal) -> Result:
        """Survey the prototypes and write everything; a row for each image that is reasoned about.

        Raises InputError for a network without prototypes, images that are not there, or a folder
        that holds something else."""
        self._check_options()
        return _Search(self.resolve_quick(), terminal).run()

    def resolve_quick(self) -> PrototypesCommand:
        """The options with those of --quick in place of the defaults."""
        if not self.quick:
            return self
        defaults = type(self)()
        asked = {
            name: value
            for name, value in QUICK.items()
            if getattr(self, name) == getattr(defaults, name)
        }
        return replace(self, **asked)

    def _check_options(self) -> None:
        """Raises InputError for a number out of range.

        Not `check`, which a config file must pass before the words are known.
        """
        if self.model is None:
            raise InputError("no network: give one, for example mdm prototypes protopnet")
        for name, least in (("images", 0), ("top", 1), ("nearest", 0), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name} is {value}: give a whole number from {least}")
        if not 0 < self.share < 1:
            raise InputError(
                f"--share is {self.share}: give a share of the image between 0 and 1, such as 0.1"
            )

    def mdm_config(self) -> MDMConfig:
        return build(MDMConfig, self.mdm, base=NODE_PRESETS[self.preset])


class _Search:
    """One survey: what is asked, the network, and the images."""

    def __init__(self, options: PrototypesCommand, terminal: Terminal) -> None:
        assert options.model is not None
        claims.check(options.out, SEARCH)
        self.options, self.terminal = options, terminal
        self.mdm = options.mdm_config()
        self.classifier = options.load()
        self.region_names = _region_names(options.regions, self.classifier)
        if options.quick and not options.regions:
            self.region_names = tuple(
                name for name in self.region_names if name in QUICK_REGIONS
            )
        last_layer(self.classifier)  # raises for a network without prototypes
        self.record = record.read(record_folder(options.model))
        self.data = options.data or (self.record.source if self.record else "digits")
        if self.record is not None:
            _check_cropping(self.record, self.data)
        train_split = self.record.split if self.record else "train"
        self.splits = {TRAIN: options.train_split or train_split, TEST: options.split}
        sources = {
            part: options.read(self.data, split) for part, split in self.splits.items()
        }
        self.image_sets = ImageSets(sources, self.classifier)

    def run(self) -> Result:
        options = self.options
        if self.record is not None:
            progress = self.terminal.progress
            check_record(self.record, self.image_sets, self.classifier, self.data, progress)
        start = time.perf_counter()
        with workspace.open_workspace(options.out, SEARCH) as out:
            settings = self._settings()
            defaults = argument_defaults(settings["network"], "network.")
            workspace.record_settings(
                out, SETTINGS, settings, "a prototype search", defaults=defaults
            )
            # Bound by now; nearest images of before were found without their being written down.
            settings["network"].pop("arguments")
            survey, count = self._survey(out, settings)
            files = tables.write_tables(survey, out)
            files += write_figures(survey, out, options.share, self.terminal.progress)
            page = prototype_page.write_page(
                survey,
                out,
                share=options.share,
                settings=self._shown_settings(),
                progress=self.terminal.progress,
            )
        seconds = time.perf_counter() - start
        before = len(survey.pairs) * len(survey.regions) - count
        summary = (
            f"{len(survey.prototypes)} prototypes of {self.classifier.name}, {count} regions found"
            f" in {seconds:.1f} s ({before} were there); open the page in a browser"
        )
        rows = [_row(each, survey) for each in survey.decisions]
        written = [str(file) for file in [page, *files]]
        return Result(rows, summary, written, out=options.out, notes=survey.notes)

    def _survey(self, out: Path, settings: dict[str, Any]) -> tuple[Survey, int]:
        """Everything that is found, and how many regions were found just now."""
        options, progress = self.options, self.terminal.progress
        prototypes, notes = find_origins(
            self.classifier,
            self.image_sets,
            self.record,
            out,
            count=options.nearest,
            limit=options.limit,
            settings=settings,
            progress=progress,
        )
        indices = evenly_spaced(len(self.image_sets.sources[TEST]), options.images)
        decisions, unread = survey_decisions(
            self.classifier,
            self.image_sets,
            [ImageRef(TEST, index) for index in indices],
            rows=options.top,
            progress=progress,
        )
        pairs = all_pairs(prototypes, decisions)
        if options.quick:
            shown = {row.prototype for each in decisions for row in each.sum.rows}
            pairs = [pair for pair in pairs if pair.prototype in shown]
            notes.append(
                f"--quick: regions of {len(shown)} of {len(prototypes)} prototypes; the same"
                " command without it finds the others"
            )
        stores = {name: self._store(out, name) for name in self.region_names}
        missing = sum(len(store.missing(pairs)) for store in stores.values())
        if missing:
            progress.say(_describe_work(missing, len(pairs), self.region_names, options))
        configs = {name: self._config(name) for name in self.region_names}
        try:
            count, missed = search_regions(
                self.classifier,
                self.image_sets,
                stores,
                pairs,
                configs=configs,
                key=options.seed,
                micro_batch=options.micro_batch,
                progress=progress,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        # Several steps may say the same of one image.
        said = tuple(dict.fromkeys([*notes, *unread, *missed]))
        return Survey(
            self.classifier, self.image_sets, prototypes, decisions, stores, said
        ), count

    def _config(self, region: str) -> MDMConfig | None:
        return self.mdm if region in MDM_REGIONS else None

    def _store(self, out: Path, region: str) -> RegionStore:
        config = self._config(region)
        settings = {
            "seed": self.options.seed,
            "config": part_names.describe(config),
            "node": part_names.describe(regions.default_node(region)),
        }
        return RegionStore(out, region, settings, part_names.defaults_of(config, "config."))

    def _settings(self) -> dict[str, Any]:
        """What makes the search what it is: another is refused in its folder."""
        settings = {"network": network_fingerprint(self.classifier), "data": self.data}
        for part, split in self.splits.items():
            settings[part] = {"split": split} | source_fingerprint(
                self.image_sets.sources[part]
            )
        return settings

    def _shown_settings(self) -> dict[str, Any]:
        """What the page says of the search."""
        count = len(self.image_sets.sources[TRAIN])
        searched = min(self.options.limit or count, count)
        chosen = [
            f"{name} {getattr(self.mdm, name)}" for name in ("steps", "sizes", "fill")
        ]
        return {
            "network": self.classifier.name,
            "data": self.data,
            "splits": f"{self.splits[TRAIN]} for prototypes, {self.splits[TEST]} for decisions",
            "nearest images": f"among {searched} training images",
            "MDM": f"of the {regions.MDM_NODE}, {', '.join(chosen)}",
            "seed": self.options.seed,
        }


def _describe_work(
    missing: int, pairs: int, names: tuple[str, ...], options: PrototypesCommand
) -> str:
    """How many regions are to be found, and how fewer would be."""
    text = (
        f"{missing:,} regions to find: {pairs:,} pairs of an image and a prototype, each by"
        f" {', '.join(names)}"
    )
    if options.quick or missing < MANY_REGIONS:
        return text
    return f"{text}; --quick finds a few first, and what is found is kept"


def _region_names(given: tuple[str, ...], classifier: Classifier) -> tuple[str, ...]:
    """The ways of finding regions, in order. Raises InputError for one that does not exist, or that
    the network does not have."""
    shape = (*classifier.preprocessing.size, classifier.preprocessing.channels)
    suitable = regions.applicable_regions(classifier, shape)
    for name in given:
        regions.resolve(name)
        if name in regions.REGIONS and name not in suitable:
            raise InputError(
                f"this network has no {name}: choose from {', '.join(suitable)}"
            )
    if len(set(given)) < len(given):
        raise InputError("a region is given twice in --regions: give each once")
    return given or tuple(name for name in REGION_ORDER if name in suitable)


def _check_cropping(record: PushRecord, data: str) -> None:
    """Raises InputError for whole images where the network was trained on their boxes, or the
    other way round."""
    prefix = "cropped:"
    was_cropped = record.source.startswith(prefix)
    if was_cropped != data.startswith(prefix):
        better = f"{prefix}{data}" if was_cropped else data.removeprefix(prefix)
        raise InputError(
            f"the network was trained on images {'' if was_cropped else 'not '}cut to their boxes:"
            f" give --data {better}"
        )


def _row(decision: Decision, survey: Survey) -> dict[str, Any]:
    names = survey.classifier.class_names
    strongest = decision.sum.rows[0]
    return {
        "image": decision.id,
        "is": name_classes(decision.classes, names) or None,
        "says": names[decision.reasoning.target],
        "score": finite(decision.reasoning.logit),
        "most points": strongest.points,
        "from prototype": strongest.prototype,
    }
