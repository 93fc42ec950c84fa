"""Whether the record of a push is of this network and these images."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from mdm_jax.data.source import Source, read_image
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier
from mdm_jax.models.pretrained import EMBEDDED
from mdm_jax.progress import Progress, task
from mdm_jax.prototypes.image_sets import TRAIN, ImageSets
from mdm_jax.prototypes.reasoning import last_layer
from mdm_jax.prototypes.search import prototype_classes
from mdm_jax.training.prototypes.record import PushRecord

HINT = "give the --data and --train-split of the training"


def record_folder(model: str) -> Path:
    """Where the record of the push lies, if there is one: beside the weights."""
    place = EMBEDDED.get(model, Path(model))
    return place.parent if place.is_file() or place.name == "checkpoints" else place


def check_record(
    record: PushRecord,
    image_sets: ImageSets,
    classifier: Classifier,
    data: str,
    progress: Progress,
) -> None:
    """Raises InputError where the record is of another network, or the images that it names are not
    in the data."""
    source = image_sets.sources[TRAIN]
    _check_network(record, classifier)
    # Numbers before names: these need no image to be read.
    for each in record.pushed:
        if each.item is not None and each.item >= len(source):
            raise InputError(
                f"prototype {each.prototype} is from item {each.item}, {data} has {len(source)}"
                f" items: {HINT}"
            )
    # Several prototypes may be of one image, which is read once.
    id_of = lru_cache(None)(partial(_id_of, source))
    name = "checking the training images of the prototypes"
    with task(progress, name, len(record.pushed)) as advance:
        for each in record.pushed:
            found = None if each.item is None else id_of(each.item)
            if found is not None and found != each.id:
                raise InputError(
                    f"prototype {each.prototype} is from {each.id}, where {data} now has {found}:"
                    f" {HINT}"
                )
            advance(each.prototype + 1)


def _check_network(record: PushRecord, classifier: Classifier) -> None:
    classes = prototype_classes(classifier)
    kernel, _ = last_layer(classifier)
    if len(record.pushed) != len(kernel):
        raise InputError(
            f"prototypes.json tells of {len(record.pushed)} prototypes, the network has"
            f" {len(kernel)}: they are of different trainings"
        )
    if classes is None:
        return
    for each in record.pushed:
        if each.class_index != classes[each.prototype]:
            raise InputError(
                f"prototype {each.prototype} is of class {each.class_index} by prototypes.json, of"
                f" class {classes[each.prototype]} by the network: they are of different trainings"
            )


def _id_of(source: Source, item: int) -> str | None:
    """None for an item that cannot be read, which is said where it is drawn."""
    try:
        return read_image(source, item).id
    except InputError:
        return None
