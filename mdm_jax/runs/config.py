"""What a run is asked, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mdm_jax import methods
from mdm_jax.data.spec import DataSpec
from mdm_jax.errors import InputError
from mdm_jax.execution.keys import as_key
from mdm_jax.methods import ConfiguredMethod, MethodLike, MethodSpec
from mdm_jax.models.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How the images of a source are explained; what is marked (free) may change when a run goes
    on."""

    method: MethodLike = "mdm"
    """what explains: a name, perhaps with settings as in "rise:num_samples=1000", the settings
    themselves as in RISE(num_samples=1000), or a function of the same contract"""
    config: Any = None
    """the method's config, such as MDMConfig(steps=40), or a preset's name, where the method is a
    bare name or a function"""
    targets: Any = "prediction"
    """"prediction", "label", "top5", classes as in "3,7", or an array with one class for each item
    of the source (-1 for the network's first choice)"""
    node: Any = None
    """what is explained; by default what the authors of the method explain"""
    seed: int = 0
    """of everything random"""
    limit: int | None = None
    """use only so many items, spread evenly over the source"""
    saliency: bool = False
    """keep the maps too, as float16; mask vectors are kept always, and give the map on demand where
    it is their stack. Maps that are more than that are kept always"""
    evidence: bool = False
    """keep the evidence too (float16), from which `Run.ranking` is drawn; for mdm with the schedule
    sequence"""
    chunk: int = 64
    """images in a chunk: what is written at a time, and lost at most when the run is killed"""
    micro_batch: int | None = None
    """problems on each device at a time; one on CPU, else found from the memory (free)"""
    slots: bool | None = None
    """put a new image in the place of each that has converged; by default where MDM runs until it
    converges with a micro_batch of more than one (free)"""
    workers: int = 0
    """processes that read images; 0 reads in threads (free)"""

    def resolve(self) -> ConfiguredMethod:
        """The method and its settings. Raises InputError for what cannot be."""
        for name in ("limit", "chunk", "micro_batch"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 1
            ):
                raise InputError(f"{name} is {value!r}: give a whole number from 1")
        if not isinstance(self.workers, int) or self.workers < 0:
            raise InputError(
                f"workers is {self.workers!r}: give the number of processes, or 0 for threads"
            )
        if not isinstance(self.seed, int):
            raise InputError(
                f"the seed is {self.seed!r}: give a whole number, which the run can write down"
            )
        as_key(self.seed)
        chosen = methods.configure(self.method, self.config).with_default_config()
        if self.slots and chosen.name != "mdm":
            raise InputError(
                f"slots are for methods that converge, which {chosen.name} does not: leave"
                " slots out"
            )
        return chosen


@dataclass(frozen=True, kw_only=True)
class RunJob(ModelSpec, DataSpec, MethodSpec):
    """A run by names alone: network, images, method and how, as a command line or a config file
    says them; what is marked (free) may change when a run goes on."""

    targets: str = "prediction"
    """which classes of each image: prediction (the network's first choice), label (the true class),
    top5, or some as in 3,7"""
    node: str | None = None
    """what is explained: probability, logit, log_odds, sigmoid, logits, or a function of yours,
    such as my_nodes.py:margin; by default what the method's authors explain"""
    seed: int = 0
    """seed of everything random"""
    saliency: bool = False
    """keep the saliency maps too (float16); mask vectors are kept always, and give the maps on
    demand where they are their stack. Maps that are more than that are kept always"""
    evidence: bool = False
    """keep the evidence too (float16), from which rankings of the pixels are drawn; for mdm with
    the schedule sequence"""
    chunk: int = 64
    """images in a chunk: what is written at a time, and lost at most when the run is killed"""
    micro_batch: int | None = None
    """problems on each device at a time; one on CPU, else found from the memory (free)"""
    slots: bool | None = None
    """True: put a new image in the place of each that has converged; by default where MDM runs
    until it converges and micro_batch is more than one (free)"""
    workers: int = 0
    """processes that read images; 0 reads in threads (free)"""
    out: str = "mdm-run"
    """folder of the run, or a URL with gs:// or s3://"""

    def run_config(self) -> RunConfig:
        """How the images are explained, checked."""
        shared = {each.name for each in fields(RunConfig)} - {"method", "config"}
        config = RunConfig(
            method=self.resolve(), **{name: getattr(self, name) for name in shared}
        )
        config.resolve()
        return config
