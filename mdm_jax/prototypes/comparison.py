"""Regions of the same (image, prototype) pairs, compared at the same areas.

The intervals are the bootstrap's over pairs, and paired for differences
(`mdm_jax.evaluation.statistics`). Give one pair an image: several pairs of one image would count as
independent. Each region and its masked copies are made by one network, clean and masked alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple, Unpack, cast

import numpy as np
from jaxtyping import Int

from mdm_jax.errors import InputError, unknown
from mdm_jax.evaluation.benchmark import Entry
from mdm_jax.evaluation.cost import Cost, count_failures
from mdm_jax.evaluation.statistics import Scores
from mdm_jax.evaluation.tables import Table, of_entries
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.execution.timing import stopwatch
from mdm_jax.images import check_batch
from mdm_jax.metrics.localization import check_truth
from mdm_jax.metrics.metric import Metric
from mdm_jax.prototypes import parts as parts_
from mdm_jax.prototypes import perturbations, search
from mdm_jax.prototypes.curves import Curves, curves_of
from mdm_jax.prototypes.metrics import METRICS, Evidence, informative_pairs
from mdm_jax.prototypes.search import PairOptions, SearchOptions
from mdm_jax.types import Explanation, Node

# What regions are found anew under: noise on the image, permuted prototypes, a fresh backbone.
CHECKS = ("noise", *perturbations.CHANGES)

# What a table shows unless it is asked for all.
TABLE_METRICS = (
    "retention:gray",
    "removal:gray",
    "retention:blur",
    "removal:blur",
    "retention:distance-above-gray",
    "removal:distance-above-gray",
    "least_area:similarity-gray",
    "least_area:distance-gray",
    "least_area:similarity-blur",
    "least_area:distance-blur",
    "object_overlap:5%",
    "object_iou:own-area",
    "stability:noise",
    "sanity:prototypes",
    "sanity:backbone",
    "purity:box-32",
    "consistency:box-72",
)


@dataclass(frozen=True)
class PairAnnotations:
    """What is known of the object in each image, one entry for each pair."""

    masks: Sequence[Any] | None = None
    """[h, w] of the object, or None where it is not known"""
    parts: Sequence[Any] | None = None
    """(x, y) [p, 2] of the object's parts, NaN for one that is not seen; or None"""
    part_names: Sequence[str] | None = None
    """[p]; the left and the right of a part then count as one for purity, as in PIP-Net"""


@dataclass(frozen=True)
class Comparison:
    """All regions of all pairs and what was measured of them."""

    name: str
    ids: tuple[str, ...]
    prototypes: Int[np.ndarray, " n"]
    explanations: Mapping[str, Explanation]
    evidence: Mapping[str, Evidence]
    seconds: Mapping[str, float]
    """by region, for all pairs, without compilation"""

    @property
    def curves(self) -> dict[str, Curves]:
        """The curves of each region."""
        return {region: each.curves for region, each in self.evidence.items()}

    def scores(self, region: str) -> Scores:
        """The statistics of every measure that applies, by pair."""
        measured = {}
        for name, metric in METRICS.items():
            result = metric.measure(self.evidence[region])
            if len(result.rows):
                measured[name] = result
        return Scores(self.ids, {name: METRICS[name] for name in measured}, measured)

    def table(
        self, *, reference: str | None = None, metrics: Sequence[str] | None = None
    ) -> Table:
        """The table of `metrics`, by default `TABLE_METRICS`, as far as they apply.

        By default the other regions are compared with MDM. `evaluation.table_text.markdown` and
        `to_csv` write it. Raises InputError for a metric that does not exist."""
        names = tuple(TABLE_METRICS if metrics is None else metrics)
        for name in names:
            if name not in METRICS:
                raise unknown("measure", name, METRICS)
        entries = [self._entry(region, names) for region in self.explanations]
        present = {
            name for entry in entries if entry.scores for name in entry.scores.measured
        }
        columns: dict[str, Metric] = {
            name: METRICS[name] for name in names if name in present
        }
        return of_entries(entries, columns, self._notes(), reference)

    def _entry(self, region: str, names: Sequence[str]) -> Entry:
        scores, info = self.scores(region), self.explanations[region].info
        chosen = {name: each for name, each in scores.measured.items() if name in names}
        cost = Cost(
            float(np.mean(info.evaluations)),
            float(np.mean(info.forwards)),
            self.seconds[region] / len(self.ids),
        )
        return Entry(
            self.name,
            region,
            cost,
            Scores(self.ids, scores.metrics, chosen),
            failures=count_failures(np.asarray(info.status)),
        )

    def _notes(self) -> tuple[str, ...]:
        pairs, different = len(self.ids), len(np.unique(self.prototypes))
        note = (
            f"{pairs} pairs of an image and a prototype, {different} different prototypes"
        )
        # the pairs that count are the same for every region
        first = next(iter(self.evidence.values()))
        left_out = pairs - int(informative_pairs(first.curves).sum())
        if left_out:
            note += (
                f"; {left_out} left out of the curves: the prototype is not in the image, or"
                " nothing changes it"
            )
        return (note,)


@own_settings()
def compare_regions(
    classifier: Any,
    images: Any,
    prototypes: Any,
    *,
    regions: Sequence[str] | str | None = None,
    annotations: PairAnnotations = PairAnnotations(),
    checks: Sequence[str] | None = None,
    name: str = "",
    on_progress: Callable[[str, int], None] | None = None,
    **options: Unpack[SearchOptions],
) -> Comparison:
    """Find and measure the regions of prototype `prototypes[i]` in image i.

    Args:
      classifier, images, prototypes, regions: as in `search.find_regions`.
      annotations: what is known of the object in each image; metrics that need more are left out.
      checks: of `CHECKS`, by default those that the network allows; each costs every region once
        more.
      name: of the network, for the table.
      on_progress: called with what is being done and the number of pairs that are finished.
      options: node, configs, key, ids and micro_batch as in `search.find_regions`.

    Raises InputError as `search.find_regions`, for masks or parts of another size, and for a check
    that is unknown or impossible."""
    images = check_batch(images)
    n, shape = len(images), (images.shape[1], images.shape[2], images.shape[3])
    names = search.resolve_regions(regions, classifier, shape)
    configs = search.resolve_configs(options.pop("configs", None), names)
    checks = _resolve_checks(checks, classifier)
    masks, parts = _check_annotations(annotations, n, shape[:2])
    # everything is checked before the first search, which may take hours
    prototypes = search.resolve_prototypes(prototypes, classifier, images)
    node = options.pop("node", None)
    report = on_progress or (lambda what, done: None)
    pairs = _Pairs(prototypes, configs, node, cast("PairOptions", options), report)

    found, seconds = {}, {}
    for region in names:
        found[region], seconds[region] = pairs.find(classifier, images, region, what=region)
    # checks come after all regions, so that what is asked for first is done first
    others = _find_under_checks(classifier, images, names, checks, pairs)
    evidence = {}
    for region in names:
        saliency = found[region].saliency
        evidence[region] = Evidence(
            pairs.measure_curves(classifier, images, saliency, what=f"{region}, curves"),
            saliency,
            prototypes,
            masks,
            parts,
            others[region],
            tuple(annotations.part_names or ()),
        )
    ids = options.get("ids")
    shown_ids = tuple(str(each) for each in (range(n) if ids is None else ids))
    name = name or str(getattr(classifier, "name", "network"))
    return Comparison(name, shown_ids, prototypes, found, evidence, seconds)


def compare(classifier: Any, images: Any, prototypes: Any, **options: Any) -> Comparison:
    """The older form of `compare_regions`, with masks, parts and part_names as arguments."""
    known = {field.name for field in fields(PairAnnotations)}
    annotations = PairAnnotations(
        **{name: options.pop(name) for name in known & options.keys()}
    )
    return compare_regions(
        classifier, images, prototypes, annotations=annotations, **options
    )


def possible_checks(classifier: Any) -> tuple[str, ...]:
    """Those of `CHECKS` that a network allows.

    Of a network that is none of ours nobody knows which weights are its prototypes."""
    possible = []
    for check in CHECKS:
        try:
            if check in perturbations.CHANGES:
                perturbations.check_change(classifier, check)
        except InputError:
            continue
        possible.append(check)
    return tuple(possible)


class _Pairs(NamedTuple):
    """The pairs of a comparison, and how each of them is searched."""

    prototypes: Int[np.ndarray, " n"]
    configs: Mapping[str, Any]
    node: str | Node | None
    options: PairOptions
    report: Callable[[str, int], None]

    def find(
        self, network: Any, images: Any, region: str, *, what: str
    ) -> tuple[Explanation, float]:
        """One region of all pairs, and the seconds that it took without compilation."""
        # other regions' configs are unknown to a search of this region alone
        own = {region: self.configs[region]} if region in self.configs else None
        with stopwatch() as timing:
            found = search.find_regions(
                network,
                images,
                self.prototypes,
                regions=(region,),
                node=self.node,
                configs=own,
                on_progress=lambda _, done: self.report(what, done),
                **self.options,
            )
        return found[region], timing.running

    def measure_curves(
        self, classifier: Any, images: Any, saliency: Any, *, what: str
    ) -> Curves:
        """The curves of one region's maps."""
        return curves_of(
            classifier,
            images,
            saliency,
            self.prototypes,
            on_progress=partial(self.report, what),
            **self.options,
        )


def _find_under_checks(
    classifier: Any,
    images: Any,
    names: Sequence[str],
    checks: Sequence[str],
    pairs: _Pairs,
) -> dict[str, dict[str, Any]]:
    """The maps of every region under every check, by region and check."""
    others: dict[str, dict[str, Any]] = {region: {} for region in names}
    for check in checks:
        # noise changes the images, the other checks change the network
        network, seen = classifier, images
        if check == "noise":
            key, ids = pairs.options.get("key", 0), pairs.options.get("ids")
            seen = perturbations.add_noise_to_images(classifier, images, key=key, ids=ids)
        else:
            network = perturbations.change_weights(classifier, check)
        for region in names:
            found, _ = pairs.find(network, seen, region, what=f"{region}, {check}")
            others[region][check] = found.saliency
    return others


def _resolve_checks(checks: Sequence[str] | None, classifier: Any) -> tuple[str, ...]:
    """The checks to run. Raises InputError for one that is unknown or impossible."""
    if checks is None:
        return possible_checks(classifier)
    for check in checks:
        if check not in CHECKS:
            raise unknown("check", check, CHECKS)
        if check in perturbations.CHANGES:
            perturbations.check_change(classifier, check)
    return tuple(checks)


def _check_annotations(
    annotations: PairAnnotations, n: int, size: tuple[int, int]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Masks and parts of all n pairs. Raises InputError where they do not fit the images."""
    masks = _one_for_each_pair("masks", annotations.masks, n)
    parts = _one_for_each_pair("parts", annotations.parts, n)
    for mask in masks:
        check_truth(mask, None, size)
    parts_.check_parts(parts, annotations.part_names)
    return masks, parts


def _one_for_each_pair(what: str, given: Sequence[Any] | None, n: int) -> tuple[Any, ...]:
    if given is None:
        return (None,) * n
    if len(given) != n:
        raise InputError(
            f"{len(given)} {what} for {n} pairs: give one for each, None where it is not known"
        )
    return tuple(given)
