"""A figure "this looks like that" for each decision of a prototype network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mdm_jax.progress import Progress, task
from mdm_jax.prototypes.region_store import RegionStore
from mdm_jax.prototypes.survey import Decision, Survey
from mdm_jax.storage import arrays, claims
from mdm_jax.storage.atomic import make_folder
from mdm_jax.views import explanation_figures, prototype_figures
from mdm_jax.views.pages import prototype_page


def write_figures(
    survey: Survey, out: Path, share: float, progress: Progress
) -> list[Path]:
    """Draw each decision, with the regions of the first way of finding them; the files."""
    folder = out / "figures"
    # An earlier call may have drawn more images, or others under the same numbers.
    claims.clear(out, prototype_page.FIGURES)
    make_folder(folder)
    region, store = next(iter(survey.regions.items()))
    title = prototype_page.title_of(region)[0]
    how = title if title.isupper() else f"the {title}"
    files = []
    with task(progress, "drawing figures", len(survey.decisions)) as advance:
        for number, decision in enumerate(survey.decisions):
            figure = draw(survey, decision, store, share=share, how=how)
            said = survey.classifier.class_names[decision.reasoning.target]
            short = arrays.file_name(prototype_figures.shorten(said))
            path = folder / f"{number:03d}-{short}.png"
            explanation_figures.save(figure, path)
            files.append(path)
            advance(number + 1)
    return files


def draw(
    survey: Survey, decision: Decision, store: RegionStore, *, share: float, how: str
) -> Any:
    """The figure of one decision."""
    names = survey.classifier.class_names
    looks = []
    for row, region in zip(decision.sum.rows, store.maps(decision.pairs)):
        prototype = survey.prototypes[row.prototype]
        source, class_index = prototype.source, prototype.class_index
        # The image that the prototype comes from may be unknown, or not readable any more.
        items = [source.item] if source else []
        seen = next((seen for _, seen in survey.album.readable(items, [])), None)
        looks.append(
            prototype_figures.LookAlike(
                row,
                "" if class_index is None else names[class_index],
                region,
                seen.image if seen else None,
                next(store.maps([source])) if source and seen else None,
                name_classes(seen.classes, names) if seen else "",
            )
        )
    rival = decision.rival
    return prototype_figures.this_looks_like_that(
        survey.album.read(decision.item).image,
        looks,
        decision.sum,
        prototype_figures.Verdict(
            says=names[decision.reasoning.target],
            label=name_classes(decision.classes, names),
            rival=None if rival is None else (names[rival[0]], rival[1]),
            multi_label=decision.multi_label,
        ),
        share=share,
        how=how,
    )


def name_classes(classes: tuple[int, ...] | None, names: tuple[str, ...]) -> str:
    """True classes as text, "" where there are none or they are not known."""
    return ", ".join(names[number].partition(",")[0] for number in classes or ())
