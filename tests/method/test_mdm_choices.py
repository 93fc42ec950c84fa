"""Choices of the method that its defaults leave off: each does what its docstring says."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import PATCH, patch_network

from mdm_jax import (
    PRESETS,
    InputError,
    MDMConfig,
    area,
    config_files,
    consistency,
    explain,
    masked_views,
    masks,
    methods,
)
from mdm_jax.images import gaussian_blur
from mdm_jax.objectives import from_mapping

# all but the warm start and the smoothing belong to the schedules joint and independent
BASE = replace(
    PRESETS["fast-2026-11"],
    sizes=(4, 8),
    coarse_to_fine=None,
    fill="black",
    start="half",
    learning_rate=0.3,
    steps=6,
)


# Two programs may round their last bit otherwise.
same_but_for_rounding = partial(np.testing.assert_allclose, rtol=1e-6)


def settled(images, **choices):
    return explain(
        patch_network, images, targets=0, config=replace(BASE, **choices), trace=True
    )


@pytest.mark.slow
def test_finer_sizes_join_in_turn(images):
    coarse, fine = settled(images[:1], coarse_to_fine=0.5).trace.mask_vectors
    moved = [
        [bool(np.any(vectors[0, t + 1] != vectors[0, t])) for t in range(5)]
        for vectors in (coarse, fine)
    ]
    assert moved == [[True] * 5, [False] * 3 + [True] * 2]


@pytest.mark.slow
def test_all_join_at_once_with_no_share(images):
    plain, joined = settled(images[:1]), settled(images[:1], coarse_to_fine=0.0)
    jax.tree.map(same_but_for_rounding, joined.mask_vectors, plain.mask_vectors)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sigmoid", "box"])
def test_a_budget_is_held_and_keeps_the_order(name):
    values = tuple(
        jax.random.uniform(jax.random.key(i), size, minval=0.1, maxval=0.9)
        for i, size in enumerate(((3, 3), (5, 5)))
    )
    decode, encode, _ = masks.PARAMETRIZATIONS[name]
    parameters = tuple(map(encode, values))
    kept = jax.jit(masks.project_to_area, static_argnums=2)(parameters, 0.2, name)
    assert np.mean([decode(each).mean() for each in kept]) == pytest.approx(0.2, abs=1e-4)
    for before, after in zip(values, map(decode, kept)):
        order = np.argsort(before.ravel())
        assert np.all(np.diff(np.asarray(after).ravel()[order]) >= 0)
    roomy = masks.project_to_area(parameters, 0.95, name)
    jax.tree.map(np.testing.assert_array_equal, roomy, parameters)


@pytest.mark.slow
def test_within_a_budget_the_mask_goes_where_it_helps(images):
    choices = {
        "optimizer": partial(optax.sgd, momentum=0.9),
        "learning_rate": 100.0,
        "steps": 30,
    }  # Adam moves all cells alike
    explanation = settled(
        images, objective=(consistency(),), area_budget=0.1, start=0.3, **choices
    )
    assert (
        explanation.info.kept_area <= 0.13
    ).all()  # of the stacked mask; the bound is on the mask vectors
    inside = explanation.saliency[:, *PATCH].sum((1, 2)) / explanation.saliency.sum((1, 2))
    assert (inside > 4 * 64 / 1024).all()  # four times chance


@pytest.mark.slow
def test_a_warm_start_is_the_baselines_map_and_is_paid_for(tiny, images, key):
    settings = replace(BASE, start="gradient", steps=1)
    warm = explain(tiny, images[:1], targets=1, node="logit", config=settings, trace=True)
    baseline = explain(tiny, images[:1], targets=1, method="gradient", node="logit")
    given = explain(
        tiny,
        images[:1],
        targets=1,
        node="logit",
        config=replace(settings, start=baseline.saliency[0]),
        trace=True,
    )
    for started, same in zip(warm.trace.mask_vectors, given.trace.mask_vectors):
        np.testing.assert_allclose(started, same, atol=1e-5)
    assert (warm.info.evaluations == given.info.evaluations + 1).all()
    with pytest.raises(InputError, match="unknown start 'gradients'"):
        explain(tiny, images[:1], config=replace(BASE, start="gradients"))


@pytest.mark.slow
def test_the_images_are_shifted_anew_at_every_step(images, key):
    shown = jnp.asarray(images[:2])
    drawn = [
        masked_views.random_shift(shown, jax.random.fold_in(key, t), 3) for t in range(8)
    ]
    offsets = set()
    for each in drawn:
        found = [
            (y, x)
            for y in range(-3, 4)
            for x in range(-3, 4)
            if np.array_equal(each, np.roll(shown, (y, x), (1, 2)))
        ]
        assert len(found) == 1
        offsets |= set(found)
    assert len(offsets) > 4
    calm, shaken = settled(images[:1]), settled(images[:1], jitter=6)
    assert np.abs(calm.saliency - shaken.saliency).max() > 1e-3


@pytest.mark.slow
def test_the_map_is_smoothed_and_the_masks_are_not(images):
    sharp, smooth = settled(images[:1]), settled(images[:1], smoothing=3.0)
    jax.tree.map(same_but_for_rounding, sharp.mask_vectors, smooth.mask_vectors)
    stacked = masks.stack(
        jnp.stack(
            [masks.render(jnp.asarray(each[0]), (32, 32)) for each in smooth.mask_vectors]
        )
    )
    expected = masks.normalize(gaussian_blur(stacked[..., None], 3.0)[..., 0])
    np.testing.assert_allclose(
        smooth.saliency[0], expected, atol=1e-3
    )  # stretched from a range of 0.002
    same_but_for_rounding(sharp.info.kept_area, smooth.info.kept_area)


@pytest.mark.slow
def test_terms_see_how_far_the_steps_are(images):
    objective = from_mapping({"absolute": 1.0, "area": 0.0, "late_area": 0.0})
    terms = settled(images[:1], objective=objective).trace.terms
    np.testing.assert_allclose(
        terms["late_area"][0], terms["area"][0] * np.arange(6) / 6, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["momentum", "nesterov", "schedule_free", "lbfgs"])
def test_optimizers_by_name(images, name):
    settings = config_files.build(
        MDMConfig,
        {"optimizer": name, "learning_rate": 0.5},
        base=replace(BASE, objective=(consistency(), area(3.0))),
    )
    explanation = explain(patch_network, images[:1], targets=0, config=settings, trace=True)
    assert explanation.trace.objective[0, -1] < explanation.trace.objective[0, 0]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"coarse_to_fine": 1.5}, "coarse_to_fine is 1.5: give a share"),
        ({"area_budget": 2.0}, "area_budget is 2.0: give a share"),
        ({"smoothing": -1.0}, "smoothing is -1.0: give finite numbers"),
        ({"jitter": -1}, "jitter is -1: give a whole number of pixels"),
    ],
)
def test_choices_that_cannot_be(choices, message):
    with pytest.raises(InputError, match=message):
        replace(BASE, **choices).check()


@pytest.mark.slow
def test_one_number_weighs_sizes_by_their_cells(images):
    by_power = settled(images[:1], stack_weights=1.0)
    by_hand = settled(images[:1], stack_weights=(4.0, 8.0))
    # both are stretched from a range of 0.002
    np.testing.assert_allclose(by_power.saliency, by_hand.saliency, atol=1e-4)
    alike = settled(images[:1], stack_weights=0.0)
    np.testing.assert_allclose(alike.saliency, settled(images[:1]).saliency, atol=1e-4)
    assert np.abs(by_power.saliency - alike.saliency).max() > 1e-2


def test_a_random_start_is_the_map_of_the_random_method():
    """The name is a start of `masks` too; stored runs have always meant the method."""
    resolved = methods.resolve_start(replace(BASE, start="random"))
    assert resolved.start is methods.METHODS["random"].explain
    assert methods.resolve_start(replace(BASE, start="half")).start == "half"
