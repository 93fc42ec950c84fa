"""HSIC, Sobol indices, LIME, KernelSHAP and submodular selection: parity with their packages and
with float64, closed forms, superpixels, what cannot be asked."""

import itertools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_network import captum, network
from sklearn.linear_model import Ridge

from mdm_jax import InputError
from mdm_jax.baselines import (
    cell_designs,
    hsic,
    kernel_shap,
    lime,
    sobol_indices,
    submodular_selection,
    superpixels,
)
from mdm_jax.baselines.hsic import HSIC
from mdm_jax.baselines.kernel_shap import KernelSHAP
from mdm_jax.baselines.lime import LIME
from mdm_jax.baselines.sobol_indices import SobolIndices
from mdm_jax.baselines.submodular_selection import SubmodularSelection
from mdm_jax.problem import begin

WEIGHTS = np.random.default_rng(3).normal(size=(4, 4))
"""of the pixels of a 4 x 4 image, in the network `squashed`"""
PIXELS = jnp.asarray(np.random.default_rng(4).uniform(0.2, 1.0, (4, 4, 1)), jnp.float32)


@pytest.fixture(scope="module")
def packages():
    path = pathlib.Path(__file__).parents[1] / "fixtures" / "sampled.npz"
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def squashed(images):
    """One logit, a bent weighted sum of the pixels."""
    total = jnp.einsum("nhwc,hw->n", images, jnp.asarray(WEIGHTS, jnp.float32))
    return jnp.stack([jnp.tanh(total), jnp.zeros_like(total)], axis=-1)


def blocks(images):
    """One logit, the product of the means of two quarters plus that of a third; 8 x 8 images."""
    quarter = images.reshape(len(images), 2, 4, 2, 4, -1).mean((2, 4, 5))
    score = 4.0 * quarter[:, 0, 0] * quarter[:, 0, 1] + quarter[:, 1, 0]
    return jnp.stack([score, jnp.zeros_like(score)], axis=-1)


def solve(method, config, image, predict, seed=0):
    """An attribution and the forwards; the key is that of `seed`."""
    found = jax.jit(
        lambda image, key: method.explain(
            predict, image, jnp.int32(0), node="logit", key=key, config=config
        )
    )(image, jax.random.key(seed))
    return np.asarray(found.attribution), int(found.info.forwards) - 3


def assert_same(found, expected, tolerance=1e-4):
    expected = np.asarray(expected)
    assert np.abs(np.asarray(found) - expected).max() <= tolerance * np.abs(expected).max()


# ---- sensitivity


def trace_formula(shown, scores, width):
    """trace(K H L H) / p in float64, as it is written."""
    p = len(scores)
    centering = np.eye(p) - 1.0 / p
    output_kernel = np.exp(-((scores[:, None] - scores[None, :]) ** 2) / (2 * width**2))
    return np.asarray(
        [
            np.trace(
                (1.5 - (m[:, None] - m[None, :]) ** 2)
                @ centering
                @ output_kernel
                @ centering
            )
            / p
            for m in shown.T
        ]
    )


def test_hsic_is_xpliques_and_its_formula(packages):
    shown, scores = packages["hsic/masks"], packages["hsic/scores"]
    distances = np.abs(np.subtract.outer(scores, scores))[np.triu_indices(60, 1)]
    widths = {"median_score": np.median(scores), "median_distance": np.median(distances)}
    for kind, width in widths.items():

        @jax.jit
        def estimate(shown, scores, kind=kind):
            return hsic.estimate(shown, scores, hsic.kernel_width(scores, kind))

        found = estimate(shown.astype(np.float32), scores.astype(np.float32))
        assert_same(found, trace_formula(shown, scores, width), 1e-5)
        if kind == "median_score":
            assert_same(found, packages["hsic/expected"])


def test_hsic_of_scores_that_hardly_differ():
    """What a kernel written as it stands would lose in float32."""
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 2, (60, 5)).astype(np.float32)
    scores = (0.9 + 1e-4 * shown @ rng.normal(size=5)).astype(np.float32)
    found = jax.jit(hsic.estimate)(shown, scores, np.float32(0.9))
    assert_same(
        found, trace_formula(shown, scores.astype(np.float64), np.float64(np.float32(0.9)))
    )


def test_jansens_estimator_and_the_sobol_sequence_are_xpliques(packages):
    np.testing.assert_array_equal(
        cell_designs.sobol_sequence(8, 18), packages["sobol/points"]
    )
    scores = packages["sobol/scores"].astype(np.float32)
    found = jax.jit(sobol_indices.jansen)(scores[:8], scores[16:].reshape(9, 8))
    assert_same(found, packages["sobol/expected"])


def keys_matrix(cells, pixels):
    """From cells to pixels by Keys' kernel with a = -0.5, in float64."""
    z = np.abs((np.arange(pixels)[:, None] + 0.5) * cells / pixels - 0.5 - np.arange(cells))
    near, far = 1.5 * z**3 - 2.5 * z**2 + 1, -0.5 * z**3 + 2.5 * z**2 - 4 * z + 2
    weights = np.where(z < 1, near, np.where(z < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


def test_cells_are_spread_and_enlarged_as_by_tensorflow(packages):
    cells = jnp.asarray(packages["cells"])
    np.testing.assert_array_equal(
        cell_designs.spread(cells, (13, 10)), packages["cells/nearest"]
    )
    found = jax.jit(lambda cells: cell_designs.enlarge(cells, (13, 10)))(cells)
    # TensorFlow reads the kernel from a table of 1024 places
    np.testing.assert_allclose(found, packages["cells/bicubic"], atol=5e-4)
    rows, columns = keys_matrix(4, 13), keys_matrix(4, 10)
    assert_same(found, rows @ packages["cells"].astype(np.float64) @ columns.T, 1e-5)


def test_a_latin_hypercube_has_one_point_in_each_interval():
    draw = jax.jit(lambda key: cell_designs.draw_points("latin_hypercube", 10, 3, key=key))
    points = np.asarray(draw(jax.random.key(0)))
    np.testing.assert_array_equal(
        np.sort(np.floor(10 * points), axis=0), np.arange(10.0)[:, None].repeat(3, 1)
    )
    other = draw(jax.random.key(1))
    assert np.abs(points - other).max() > 0.1


def scores_of(masks):
    """The network `squashed` on the image through masks [n, 16] over black, in float64."""
    return np.tanh(masks @ (WEIGHTS * np.asarray(PIXELS[..., 0], np.float64)).reshape(16))


def test_hsic_of_a_whole_image_in_float64():
    config = HSIC(num_samples=40, cells=4, baseline="black", chunk=7)
    found, forwards = solve(hsic, config, PIXELS, squashed)
    shown = np.round(cell_designs.sobol_sequence(40, 16)).astype(np.float64)
    scores = scores_of(shown)
    expected = trace_formula(shown, scores, np.median(scores))
    assert_same(found.reshape(16), expected)
    assert forwards == 40


def test_sobol_indices_of_a_whole_image_in_float64():
    config = SobolIndices(num_samples=8, cells=4, baseline="black")
    found, forwards = solve(sobol_indices, config, PIXELS, squashed)
    points = cell_designs.sobol_sequence(8, 32).astype(np.float64)
    first, second = points[:, :16], points[:, 16:]
    scores = scores_of(first)
    expected = []
    for d in range(16):
        changed = first.copy()
        changed[:, d] = second[:, d]
        squares = (scores - scores_of(changed)) ** 2
        expected.append(squares.sum() / (2 * 8 * scores.var(ddof=1)))
    assert_same(found.reshape(16), expected)
    assert forwards == 8 * 17


def test_sobol_indices_of_a_sum_in_closed_form():
    """Uniform cells have equal variances, so that an index is a share of squared weights."""
    rng = np.random.default_rng(1)
    weights, points = rng.normal(size=4), cell_designs.sobol_sequence(4096, 8)
    scores = points[:, :4] @ weights
    changed = scores + weights[:, None] * (points[:, 4:] - points[:, :4]).T
    found = jax.jit(sobol_indices.jansen)(
        scores.astype(np.float32), changed.astype(np.float32)
    )
    np.testing.assert_allclose(found, weights**2 / (weights**2).sum(), atol=0.01)


# ---- superpixels


def test_lab_is_that_of_skimage(packages):
    colors = packages["lab/rgb"].astype(np.float32)[None]
    np.testing.assert_allclose(
        jax.jit(superpixels.to_lab)(colors)[0], packages["lab/expected"], atol=2e-2
    )


@pytest.fixture(scope="module")
def segment():
    grid = superpixels.make_grid((20, 30, 3), 24)
    return grid, jax.jit(lambda image: superpixels.slic(image, grid))


def test_superpixels_of_a_flat_image_are_its_cells(segment):
    grid, slic = segment
    assert (grid.rows, grid.columns) == (4, 6)
    labels = slic(np.full((20, 30, 3), 0.4, np.float32))
    counts = np.bincount(labels.reshape(-1), minlength=24)
    assert counts.min() >= 20  # cells have 25 pixels
    assert counts.max() <= 30
    agree = labels == grid.home_cells()
    assert agree.mean() > 0.9


@pytest.mark.parametrize("edge", [11, 12, 13, 17])
def test_superpixels_end_at_the_edge_between_two_colors(segment, edge):
    _, slic = segment
    image = np.where(np.arange(30)[None, :, None] < edge, [0.8, 0.2, 0.2], [0.2, 0.3, 0.8])
    labels = np.asarray(slic(np.broadcast_to(image, (20, 30, 3)).astype(np.float32)))
    assert not set(labels[:, :edge].flat) & set(labels[:, edge:].flat)
    assert set(labels.flat) == set(range(24))


def test_every_superpixel_is_used_and_stays_near_its_cell(segment):
    grid, slic = segment
    rng = np.random.default_rng(0)
    coarse = jnp.asarray(rng.uniform(size=(5, 7, 3)), jnp.float32)
    image = jax.image.resize(coarse, (20, 30, 3), "bilinear")
    labels = np.asarray(slic(image))
    assert set(labels.flat) == set(range(24))
    here = np.divmod(labels, 6)
    home = np.divmod(grid.home_cells(), 6)
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(here, home))
    color = jax.jit(superpixels.segment_means)(image, labels, np.zeros((25, 3), np.float32))
    np.testing.assert_allclose(color[7], image[labels == 7].mean(0), atol=1e-6)
    np.testing.assert_array_equal(color[24], 0.0)


# ---- linear models


def test_lime_is_the_packages_and_a_ridge_in_float64(packages):
    coalitions, scores = packages["lime/coalitions"], packages["lime/scores"]

    @jax.jit
    def fit(coalitions, scores, ridge):
        weights = lime.proximity(coalitions, 0.25)
        return lime.fit_ridge(coalitions, scores, weights, ridge), weights

    arrays = coalitions.astype(np.float32), scores.astype(np.float32)
    found, weights = fit(*arrays, 1.0)
    assert_same(found, packages["lime/expected"])
    # a sample that shows nothing is as far away as can be
    assert float(weights[1]) == pytest.approx(math.exp(-0.5 / 0.25**2), rel=1e-5)
    model = Ridge(alpha=3.0)
    model.fit(coalitions, scores, sample_weight=np.asarray(weights, np.float64))
    found, _ = fit(*arrays, 3.0)
    assert_same(found, model.coef_)


def shapley_values(table, k):
    """By the definition, over all coalitions without each player."""
    expected = np.zeros(k)
    for player in range(k):
        others = [each for each in range(k) if each != player]
        for size in range(k):
            weight = 1.0 / (k * math.comb(k - 1, size))
            for members in itertools.combinations(others, size):
                number = sum(2 ** (k - 1 - each) for each in members)
                gain = table[number + 2 ** (k - 1 - player)] - table[number]
                expected[player] += weight * gain
    return expected


def fit_game(game, k, num_samples=None, seed=0):
    plan = kernel_shap.make_plan(k, num_samples)
    draw = jax.jit(lambda key: kernel_shap.draw_coalitions(plan, key=key))
    coalitions, weights = draw(jax.random.key(seed))
    gains = np.float32(game(np.asarray(coalitions)) - game(np.zeros((1, k))))
    total = np.float32(game(np.ones((1, k)))[0] - game(np.zeros((1, k)))[0])
    fit = jax.jit(kernel_shap.fit_shapley)
    return fit(coalitions, gains, weights, total), coalitions, total


def test_kernel_shap_of_all_coalitions_gives_shapley_values(packages):
    table, digits = packages["shap/table"], 2 ** np.arange(5, -1, -1)
    found, coalitions, _ = fit_game(lambda z: table[(z @ digits).astype(int)], 6)
    assert len(coalitions) == 62
    assert len(np.unique(coalitions, axis=0)) == 62
    assert_same(found, shapley_values(table, 6))
    assert_same(found, packages["shap/expected"])


def test_kernel_shap_takes_the_packages_coalitions(packages):
    plan = kernel_shap.make_plan(9, 200)
    rows, weights = packages["shap/plan/coalitions"], packages["shap/plan/weights"]
    given = len(plan.given)
    assert given == 18 + 72
    assert {tuple(row) for row in plan.given} == {tuple(row) for row in rows[:given]}
    for size in (1, 2, 7, 8):
        np.testing.assert_allclose(
            plan.given_weights[plan.given.sum(1) == size],
            weights[:given][rows[:given].sum(1) == size],
            rtol=1e-5,
        )
    assert plan.pairs == 55
    np.testing.assert_allclose(
        2 * plan.pairs * plan.drawn_weight, weights[given:].sum(), rtol=1e-5
    )
    # sizes 3 and 4, with their complements: 1/18 to 1/20
    np.testing.assert_array_equal(plan.sizes, [3, 4])
    np.testing.assert_allclose(plan.size_weights, np.asarray([20, 18]) / 38, rtol=1e-6)


def test_kernel_shap_needs_each_superpixel_alone():
    assert len(kernel_shap.make_plan(16, 100).given) == 32
    with pytest.raises(InputError, match="give at least 100"):
        kernel_shap.make_plan(16, 99)


def test_drawn_coalitions_come_with_their_complements_and_add_up():
    values = np.random.default_rng(0).normal(size=9)
    found, coalitions, total = fit_game(lambda z: z @ values, 9, 200)
    drawn = np.asarray(coalitions[90:])
    np.testing.assert_array_equal(drawn[:55] + drawn[55:], 1.0)
    assert set(drawn[:55].sum(1)) == {3, 4}
    assert_same(found, values)  # a sum is found exactly, whatever is drawn
    found, _, total = fit_game(lambda z: np.sin(3 * z @ values), 9, 200)
    assert float(found.sum()) == pytest.approx(float(total), abs=1e-5)


@pytest.mark.slow
def test_maps_of_quarters_in_closed_form():
    """Four superpixels, of which two work together, one alone, and one not at all."""
    colors = np.asarray([[0.9, 0.5], [0.7, 0.3]])
    image = np.kron(colors, np.ones((4, 4)))[..., None].astype(np.float32)
    config = KernelSHAP(segments=4, baseline="black")
    found, forwards = solve(kernel_shap, config, image, blocks)
    together = 4 * 0.9 * 0.5 / 2
    expected = np.kron([[together, together], [0.7, 0.0]], np.ones((4, 4)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert forwards == 15

    config = LIME(
        num_samples=400, segments=4, baseline="black", kernel_width=10.0, ridge=1e-4
    )
    found, forwards = solve(lime, config, image, blocks)
    assert forwards == 400
    np.testing.assert_allclose(found, expected, atol=0.15)
    other, _ = solve(lime, config, image, blocks, seed=1)
    assert np.abs(other - found).max() > 1e-3


# ---- submodular selection


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("all", SubmodularSelection(confidence=1.0, effectiveness=1.0, chunk=3)),
        ("script", SubmodularSelection(chunk=8)),
    ],
)
def test_superpixels_are_taken_as_by_the_authors(name, config, packages):
    predict = network(captum())
    labels = jnp.asarray(packages["submodular/labels"])

    def order(image):
        problem = begin(predict, image, 1, node="probability", key=jax.random.key(0))

        def score(members):
            mask = superpixels.show(members, labels)
            background = jnp.zeros_like(image)
            return submodular_selection.score_set(
                predict, problem, background, mask, node="probability"
            )

        return submodular_selection.select(score, 8, config)

    found, kept, rest = jax.jit(order)(packages["submodular/image"].astype(np.float32))
    np.testing.assert_array_equal(found, packages[f"submodular/{name}/order"])
    np.testing.assert_allclose(kept, packages[f"submodular/{name}/kept"], atol=1e-4)
    np.testing.assert_allclose(
        1 - rest, packages[f"submodular/{name}/collaboration"], atol=1e-4
    )


def test_values_fall_by_what_each_superpixel_changes():
    kept, rest = np.asarray([0.5, 0.8, 0.7]), np.asarray([0.4, 0.3, 0.1])
    # what is served: 0.1 + 1 - 0.7 = 0.4 before, then 1.1, 1.5, 1.6
    found = jax.jit(submodular_selection.values_of)(kept, rest)
    order = 1e-3 / 3 * np.asarray([1, 2, 3])
    np.testing.assert_allclose(found, [-0.7, -1.1, -1.2] - order, atol=1e-6)


def test_the_schedule_visits_every_candidate_once():
    places, is_last = submodular_selection.schedule(5, 3)
    np.testing.assert_array_equal(
        places, [[0, 1, 2], [3, 4, 5], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    )
    np.testing.assert_array_equal(is_last, [False, True, True, True, True])


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (HSIC(num_samples=1), "num_samples is 1"),
        (HSIC(sampler="sobel"), "did you mean 'sobol'"),
        (HSIC(width="median"), "unknown width 'median'"),
        (SobolIndices(cells=1), "cells is 1"),
        (SobolIndices(sampler="halton"), "unknown sampler 'halton'"),
        (LIME(kernel_width=0.0), "kernel_width is 0.0"),
        (LIME(baseline="segment"), "unknown baseline 'segment'"),
        (LIME(rounds=0), "rounds is 0"),
        (KernelSHAP(segments=1), "segments is 1"),
        (KernelSHAP(compactness=-1.0), "compactness is -1.0"),
        (SubmodularSelection(consistency=-1.0), "consistency is -1.0"),
        (SubmodularSelection(chunk=0), "chunk is 0"),
    ],
)
def test_what_cannot_be_is_said(config, sentence):
    with pytest.raises(InputError, match=sentence):
        config.check()


@pytest.mark.parametrize(
    ("method", "config", "sentence"),
    [
        (hsic, HSIC(cells=5), "cells is 5: give at most the image's 4 pixels"),
        (lime, LIME(), "segments is 49: give at most the 16 pixels"),
        (
            kernel_shap,
            KernelSHAP(segments=16, num_samples=40),
            "num_samples is 40: give at least 100 for 16 superpixels",
        ),
    ],
)
def test_what_does_not_fit_is_said(method, config, sentence):
    with pytest.raises(InputError, match=sentence):
        method.explain(
            squashed, PIXELS, 0, node="logit", key=jax.random.key(0), config=config
        )
