"""The compiled program of a sweep: maps to the last bit, pairs together and alone, and what is
compiled apart."""

import dataclasses

import numpy as np
import pytest
from conftest import patch_network

from mdm_jax import MDMConfig, explain, fills
from mdm_jax.execution.keys import as_key
from mdm_jax.execution.network import as_network
from mdm_jax.sweeps import vmapped
from mdm_jax.sweeps.points import point

BASE = MDMConfig(sizes=(4, 8), steps=3)
NUMBERS = [
    {"learning_rate": 0.1},
    {"learning_rate": 0.5, "objective.area": 2.0},
    {"tolerance": 0.1, "start": 0.4},
]


def problems(network, images, key=3):
    network, _ = as_network(network, images.shape[1:])
    n = len(images)
    return vmapped.SweepInputs(
        network,
        images,
        np.full(n, -1, np.int32),
        np.arange(n, dtype=np.uint32),
        as_key(key),
    )


@pytest.mark.slow
def test_maps_are_those_of_explain_to_the_last_bit(tiny, images):
    base = dataclasses.replace(BASE, fill=fills.blur(3.0))
    points = [point(each, base, "probability") for each in NUMBERS]
    points.append(
        points[0]._replace(config=dataclasses.replace(base, fill=fills.blur(1.5)))
    )
    (group,) = vmapped.group_points(points)
    assert (
        len(group.swept) == 5
    )  # start, sigma, weight of the area, learning rate, tolerance
    for i, explanation in vmapped.solve(group, problems(tiny, images), range(4), 1):
        alone = explain(tiny, images, config=points[i].config, key=3)
        np.testing.assert_array_equal(explanation.saliency, alone.saliency)
        np.testing.assert_array_equal(explanation.ranking, alone.ranking)
        np.testing.assert_array_equal(explanation.info.objective, alone.info.objective)


@pytest.mark.slow
def test_pairs_solved_together_are_those_solved_alone(images):
    points = [point(each, BASE, "probability") for each in NUMBERS]
    (group,) = vmapped.group_points(points)
    asked = problems(patch_network, images)
    alone = dict(vmapped.solve(group, asked, range(3), 1))
    progress = []
    together = dict(
        vmapped.solve(group, asked, [2, 0], 4, progress.append)
    )  # 6 pairs, the last two micro-batches' half padded
    assert sorted(together) == [0, 2]
    assert progress == [4, 6]
    for i in together:
        for one, other in zip(together[i].mask_vectors, alone[i].mask_vectors):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_points_are_grouped_by_what_is_compiled():
    written = [
        {},
        {"learning_rate": 0.2},
        {"fill": "mean"},
        {"fill": [0.1, 0.2, 0.3]},
        {"fill": [0.2, 0.2, 0.3]},
    ]
    written += [
        {"sizes": [4, 8], "objective.area": 1},
        {"objective.removal": 1.0},
        {"node": "logit"},
        {"fill": 0.5},
    ]
    groups = vmapped.group_points([point(each, BASE, "probability") for each in written])
    assert [group.members for group in groups] == [
        (0, 1, 5),
        (2,),
        (3, 4),
        (6,),
        (7,),
        (8,),
    ]
    assert [leaf.shape for leaf in groups[2].swept] == [(2, 3)]
