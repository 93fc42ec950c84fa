"""Which region is a prototype's? All regions of the same pairs, at the same areas, with 95 %
intervals over pairs.

The intervals are the bootstrap's over pairs, and of a difference paired
(`mdm_jax.evaluation.statistics`): give one pair an image, or pairs of one image count as
independent. Region and copies of the image are made by one network, clean and masked alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Int, Key

from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.benchmark import Cost, Entry, failures
from mdm_jax.evaluation.statistics import Scores
from mdm_jax.evaluation.tables import Table, of_entries
from mdm_jax.execution.timing import stopwatch
from mdm_jax.images import check_batch
from mdm_jax.metrics.localization import check_truth
from mdm_jax.metrics.metric import Metric
from mdm_jax.prototypes import parts as parts_
from mdm_jax.prototypes import perturbations, search
from mdm_jax.prototypes.curves import Curves, curves_of
from mdm_jax.prototypes.metrics import METRICS, Evidence, live
from mdm_jax.types import Explanation, Node

CHECKS = ("noise", *perturbations.WHAT)
"""what regions are found anew under: noise on the image, permuted prototypes, a fresh backbone"""
SHOWN = (
    *("retention:gray", "removal:gray", "retention:blur", "removal:blur"),
    *("retention:distance-above-gray", "removal:distance-above-gray"),
    *(
        "least_area:similarity-gray",
        "least_area:distance-gray",
        "least_area:similarity-blur",
        "least_area:distance-blur",
    ),
    *(
        "object_overlap:5%",
        "object_iou:own-area",
        "stability:noise",
        "sanity:prototypes",
        "sanity:backbone",
    ),
    *("purity:box-32", "consistency:box-72"),
)
"""what a table shows unless it is asked for all"""


@dataclass(frozen=True)
class Comparison:
    """All regions of all pairs and what was measured of them."""

    name: str
    ids: tuple[str, ...]
    prototypes: Int[np.ndarray, " n"]
    explanations: Mapping[str, Explanation]
    evidence: Mapping[str, Evidence]
    seconds: Mapping[str, float]
    """by region, for all pairs, compilation not counted"""

    @property
    def curves(self) -> dict[str, Curves]:
        return {region: each.curves for region, each in self.evidence.items()}

    def scores(self, region: str) -> Scores:
        """The statistics of every measure that applies, by pair."""
        measured = {name: metric.measure(self.evidence[region]) for name, metric in METRICS.items()}
        measured = {name: each for name, each in measured.items() if len(each.rows)}
        return Scores(self.ids, {name: METRICS[name] for name in measured}, measured)

    def table(self, *, reference: str | None = None, metrics: Sequence[str] | None = None) -> Table:
        """The table of `metrics`, by default `SHOWN`, as far as they apply; by default others are
        compared with MDM.

        `evaluation.table_text.markdown` and `to_csv` write it. Raises InputError for a metric that does
        not exist."""
        asked = tuple(SHOWN if metrics is None else metrics)
        for name in asked:
            if name not in METRICS:
                raise unknown("measure", name, METRICS)
        entries = [self._entry(region, asked) for region in self.explanations]
        present = {name for entry in entries if entry.scores for name in entry.scores.measured}
        shown: dict[str, Metric] = {name: METRICS[name] for name in asked if name in present}
        return of_entries(entries, shown, self._notes(), reference)

    def _entry(self, region: str, asked: Sequence[str]) -> Entry:
        scores, info = self.scores(region), self.explanations[region].info
        kept = {name: each for name, each in scores.measured.items() if name in asked}
        cost = Cost(
            float(np.mean(info.evaluations)),
            float(np.mean(info.forwards)),
            self.seconds[region] / len(self.ids),
        )
        return Entry(
            self.name,
            region,
            cost,
            Scores(self.ids, scores.metrics, kept),
            failures=failures(np.asarray(info.status)),
        )

    def _notes(self) -> tuple[str, ...]:
        first = next(iter(self.evidence.values()))
        counted = int(live(first.curves).sum())
        note = (
            f"{len(self.ids)} pairs of an image and a prototype, {len(np.unique(self.prototypes))}"
            " different prototypes"
        )
        if counted < len(self.ids):
            note += (
                f"; {len(self.ids) - counted} left out of the curves: the prototype is not in the"
                " image, or nothing changes it"
            )
        return (note,)


def compare(
    classifier: Any,
    images: Any,
    prototypes: Any,
    *,
    regions: Sequence[str] | str | None = None,
    masks: Sequence[Any] | None = None,
    parts: Sequence[Any] | None = None,
    part_names: Sequence[str] | None = None,
    checks: Sequence[str] | None = None,
    node: str | Node | None = None,
    configs: Mapping[str, Any] | None = None,
    key: Key[Array, ""] | int = 0,
    ids: Sequence[Any] | None = None,
    micro_batch: int | None = None,
    name: str = "",
    on_progress: Callable[[str, int], None] | None = None,
) -> Comparison:
    """Find and measure the regions of prototype `prototypes[i]` in image i.

    Args: classifier, images, prototypes, regions, node, configs, key, ids, micro_batch: as in
      `search.find`.
      masks: [h, w] of the object for each pair, or None where it is not known.
      parts: (x, y) [p, 2] of the object's parts for each pair, NaN for one that is not seen, or
        None.
      part_names: [p], such as a source's; the left and the right of a part then count as one for
        purity, as in PIP-Net.
      checks: of `CHECKS`, by default those that the network allows; each costs every region once
        more.
      name: of the network, for the table.
      on_progress: called with what is being done and the number of pairs that are finished.

    Raises InputError as `search.find`, for masks or parts of another size, and for a check that is
    unknown or impossible."""
    images = check_batch(images)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    names = search.checked_regions(regions, classifier, shape)
    configs = search.checked_configs(configs, names)
    checks = possible_checks(classifier) if checks is None else tuple(checks)
    for check in checks:
        if check not in CHECKS:
            raise unknown("check", check, CHECKS)
        if check in perturbations.WHAT:
            perturbations.check_change(classifier, check)
    truth = _of_pairs("masks", masks, len(images)), _of_pairs("parts", parts, len(images))
    for mask in truth[0]:
        check_truth(mask, None, shape[:2])
    parts_.check_parts(truth[1], part_names)
    prototypes = search.checked_prototypes(prototypes, classifier, images)
    tell = on_progress or (lambda what, done: None)
    same: dict[str, Any] = {"key": key, "ids": ids, "micro_batch": micro_batch}

    def look(network: Any, seen: Any, region: str, what: str) -> tuple[Explanation, float]:
        own = {region: configs[region]} if region in configs else None
        told = partial(_told, tell, what)
        with stopwatch() as timing:
            every = search.find(
                network,
                seen,
                prototypes,
                regions=(region,),
                node=node,
                configs=own,
                on_progress=told,
                **same,
            )
        return every[region], timing.running

    found, seconds = {}, {}
    for region in names:
        found[region], seconds[region] = look(classifier, images, region, region)
    others: dict[str, dict[str, Any]] = {region: {} for region in names}
    for check in checks:
        seen = (
            perturbations.noisy_images(classifier, images, key=key, ids=ids)
            if check == "noise"
            else images
        )
        network = classifier if check == "noise" else perturbations.changed(classifier, check)
        for region in names:
            others[region][check] = look(network, seen, region, f"{region}, {check}")[0].saliency
    evidence = {}
    for region in names:
        told = partial(tell, f"{region}, curves")
        curves = curves_of(
            classifier, images, found[region].saliency, prototypes, **same, on_progress=told
        )
        evidence[region] = Evidence(
            curves,
            found[region].saliency,
            prototypes,
            *truth,
            others[region],
            tuple(part_names or ()),
        )
    shown = tuple(str(each) for each in (range(len(images)) if ids is None else ids))
    name = name or str(getattr(classifier, "name", "network"))
    return Comparison(name, shown, prototypes, found, evidence, seconds)


def possible_checks(classifier: Any) -> tuple[str, ...]:
    """Those of `CHECKS` that a network allows: of a stranger's nobody knows which weights are its
    prototypes."""

    def possible(check: str) -> bool:
        try:
            perturbations.check_change(classifier, check)
        except InputError:
            return False
        return True

    return tuple(check for check in CHECKS if check not in perturbations.WHAT or possible(check))


def _told(tell: Callable[[str, int], None], what: str, region: str, done: int) -> None:
    tell(what, done)


def _of_pairs(what: str, given: Sequence[Any] | None, n: int) -> tuple[Any, ...]:
    if given is not None and len(given) != n:
        raise InputError(
            f"{len(given)} {what} for {n} pairs: give one for each, None where it is not known"
        )
    return (None,) * n if given is None else tuple(given)
