"""The class to explain where that is the label of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdm_jax.data.class_mapping import class_number, class_numbers
from mdm_jax.data.network_input import PreparedExample
from mdm_jax.data.source import Source
from mdm_jax.errors import InputError
from mdm_jax.models.classifier import Classifier


def label_targets(
    source: Source, classifier: Classifier, examples: Sequence[PreparedExample]
) -> np.ndarray:
    """The network's class of each label. Raises InputError for a label that it does not have."""
    numbers = class_numbers(source.class_names, classifier.class_names)
    targets = np.asarray([class_number(numbers, each.label) for each in examples])
    # -1 is a label that is no class of the network.
    if (targets < 0).any():
        lacking = examples[int(np.flatnonzero(targets < 0)[0])]
        raise InputError(
            f"the network has no class for the label of {lacking.id}: say with --classes which it"
            " is, or use its first choice, with --targets prediction"
        )
    return targets
