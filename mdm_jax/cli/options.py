"""Options that several verbs take, on the specs of the library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from mdm_jax import masks, mdm
from mdm_jax.config import PRESETS, MDMConfig, PresetName
from mdm_jax.data.open_source import describe_kinds
from mdm_jax.errors import InputError
from mdm_jax.methods import MDM_SETTINGS, MethodSpec


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every verb. A verb's docstring is its help: a sentence, details and examples."""

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """old option -> option: the old one is accepted with a warning"""
    READS_CONFIG: ClassVar[bool] = False
    """whether the file of --config holds other settings than these options, which `run` reads"""

    KEEPS_EARLIER: ClassVar[bool] = False
    """whether results are added to those of earlier calls, so that their options are kept too"""

    config: Path | None = None
    """TOML file with values for these options; options that are given win"""
    code: tuple[str, ...] = ()
    """functions of yours that a config file or a stored folder names, such as my_nodes.py:margin,
    or whole files, my_nodes.py: what is named in no option is not run"""
    json: bool = False
    """print JSON to standard output instead of a table"""
    log_json: str | None = None
    """file to which progress, warnings and errors are added as JSON, an object a line; - writes
    them to standard error in place of text"""


def positional(metavar: str) -> Any:
    """How help shows an argument without a name."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def recorded_data(when_missing: str) -> Any:
    """Help of a `data` that something recorded already: the kinds of sources, and its default."""
    return tyro.conf.arg(help=f"source of the images: {describe_kinds()}; {when_missing}")


def describe_presets(presets: Mapping[str, MDMConfig]) -> str:
    """Each preset with the network evaluations that an image takes."""
    texts = []
    for name, config in presets.items():
        # Small images have fewer mask sizes than large ones; an independent schedule pays for each.
        counts = []
        for side in (64, 224):
            sizes = masks.resolve_sizes(config.sizes, (side, side))
            counts.append(config.steps * mdm.evaluations_per_step(config, len(sizes)))
        cost = " or ".join(str(count) for count in dict.fromkeys(counts))
        texts.append(f"{name} ({cost})")
    return f"settings of MDM to begin with, and network evaluations an image: {', '.join(texts)}"


@dataclass(frozen=True, kw_only=True)
class MDMSettings:
    """Settings of MDM from a file; a verb has its own preset, which they change."""

    mdm: Mapping[str, Any] = field(default_factory=dict, metadata=MDM_SETTINGS)
    """settings of MDM from the file of --config, which replace the preset's"""


@dataclass(frozen=True, kw_only=True)
class PresetOptions(MDMSettings):
    """One of MDM's presets, and what the file of --config changes in it."""

    preset: Annotated[PresetName, tyro.conf.arg(help=describe_presets(PRESETS))] = "fast"


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How a result is repeated, and how it fits into the memory."""

    seed: int = 0
    """seed of everything random"""
    micro_batch: int | None = None
    """images solved at a time; found from the memory when not given"""


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What a method explains."""

    node: str | None = None
    """what is explained: probability, logit, log_odds, sigmoid (multi-label), logits (all classes),
    or a function of yours, such as my_nodes.py:margin; by default what the method's authors
    explain, for mdm the probability"""


# PresetOptions comes first: its preset has the help with the cost, that of MethodSpec does not.
@dataclass(frozen=True, kw_only=True)
class MethodOptions(PresetOptions, ComputeOptions, MethodSpec, NodeOptions, Options):
    """Options of every verb that explains with one method."""


@dataclass(frozen=True, kw_only=True)
class MovedData:
    """Where the images of a run are now."""

    data: Annotated[str | None, recorded_data("that of the run when not given")] = None


# No DataSpec, although the names are the same: there None is no source, here it is the run's own.
@dataclass(frozen=True, kw_only=True)
class RecordedImages(MovedData):
    """Which images of a run are used."""

    split: str | None = None
    """split of the data; that of the run when not given"""
    limit: int | None = None
    """use only so many images, spread evenly over the data"""

    def check_limit(self) -> None:
        """Raises InputError for a limit below 1.

        Not `check`, which a config file must pass before the words are known.
        """
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}: give a whole number from 1")
