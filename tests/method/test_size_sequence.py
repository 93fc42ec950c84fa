"""Mask sizes one after another, on a network whose answer is known: the brightness of a square."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from square_network import SIDE, SQUARE, square_image, square_network

from mdm_jax import InputError, MDMConfig, Status, area, consistency, explain, masks, mdm
from mdm_jax.config import PRESETS
from mdm_jax.masked_views import objective_of_views
from mdm_jax.problem import begin
from mdm_jax.size_sequence import (
    LEAST_WEIGHT,
    MOST_WEIGHT,
    Unknowns,
    seen_mask,
    sizes_of_steps,
    transformation,
)

CELLS = (4, 8, 16)
BOX = masks.parametrization("box")

# numbers of its own, so that the tests do not hang on those of the default
SETTINGS = MDMConfig(
    sizes=CELLS,
    fill="black",
    start=0.5,
    kept_share=0.9,
    learning_rate=0.05,
    weight_rate=2.0,
    rate_power=0.3,
    steps=45,
)


@pytest.fixture(scope="module")
def image():
    return square_image()


@pytest.fixture(scope="module")
def found(image):
    """One explanation with its trajectory."""

    @jax.jit
    def solve(image):
        key = jax.random.key(0)
        return mdm.explain(
            square_network, image, 0, node="logit", key=key, config=SETTINGS, trace=True
        )

    return jax.device_get(solve(image))


@pytest.mark.parametrize(("sizes", "steps"), [(1, 1), (3, 3), (3, 14), (4, 18), (4, 150)])
def test_every_size_gets_steps_coarse_ones_first(sizes, steps):
    order = sizes_of_steps(sizes, steps)
    counts = np.bincount(order, minlength=sizes)
    assert len(order) == counts.sum() == steps
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    assert (np.diff(order) >= 0).all()
    assert (np.diff(counts) <= 0).all()  # what is left over goes to the coarse ones


def test_fewer_steps_than_sizes_are_a_sentence(image):
    with pytest.raises(InputError, match="3 sizes one after another need at least 3 steps"):
        explain(square_network, np.asarray(image)[None], config=replace(SETTINGS, steps=2))


def rendered(vector):
    return np.asarray(masks.render(jnp.asarray(vector), (SIDE, SIDE)))


def kept_through(image, mask):
    """The share of the logit's way from the black image that is kept, by hand."""
    image, black = np.asarray(image), -3.0
    whole = 6.0 * image[SQUARE].mean() - 3.0
    seen = 6.0 * (mask[..., None] * image)[SQUARE].mean() - 3.0
    return (seen - black) / (whole - black)


def test_every_mask_alone_keeps_the_stated_share(image, found):
    for vector, cells in zip(found.mask_vectors, CELLS):
        kept = kept_through(image, rendered(vector))
        assert kept >= SETTINGS.kept_share - 0.01
        told = found.info.terms[f"kept_{cells}x{cells}"]
        np.testing.assert_allclose(told, kept, atol=1e-4)


def test_masks_shrink_to_the_square_and_finer_ones_are_no_larger(found):
    square = 16 / SIDE**2
    masks_of_sizes = [rendered(vector) for vector in found.mask_vectors]
    areas = [each.mean() for each in masks_of_sizes]
    assert areas == sorted(areas, reverse=True)
    # the finest one can be the square itself, and more than 0.9 of it is not needed
    assert SETTINGS.kept_share * square - 0.01 <= areas[-1] <= 1.5 * square
    finest = masks_of_sizes[-1]
    assert finest[SQUARE].min() > 0.8
    assert finest[SQUARE].sum() / finest.sum() > 0.7
    # the saliency shows a region, which a Gaussian of 0.6 pixels has widened
    rows, columns = SQUARE
    around = (
        slice(rows.start - 1, rows.stop + 1),
        slice(columns.start - 1, columns.stop + 1),
    )
    assert found.saliency[SQUARE].sum() / found.saliency.sum() > 0.8
    assert found.saliency[around].sum() / found.saliency.sum() > 0.99


def test_a_finer_mask_begins_with_the_answer_of_the_coarser_size(found):
    order = sizes_of_steps(len(CELLS), SETTINGS.steps)
    steps = found.trace.mask_vectors
    for k in (1, 2):
        first = int(np.argmax(order == k))
        coarser = jnp.asarray(rendered(found.mask_vectors[k - 1]))
        (expected,) = masks.start(coarser, [(CELLS[k], CELLS[k])], key=jax.random.key(0))
        np.testing.assert_allclose(steps[k][first], expected, atol=1e-5)
    for k, vectors in enumerate(steps):  # and only the step's own size moves
        moved = np.any(np.diff(vectors, axis=0) != 0, axis=(1, 2))
        is_own = order[:-1] == k
        is_handed_on = (order[:-1] == k - 1) & (order[1:] == k)
        assert not moved[~is_own & ~is_handed_on].any()


def test_the_best_mask_of_a_size_is_one_that_was_met(image, found):
    order = sizes_of_steps(len(CELLS), SETTINGS.steps)
    for k, vector in enumerate(found.mask_vectors):
        met = found.trace.mask_vectors[k][order == k]
        merits = [
            mask.mean() + 10 * max(0.0, SETTINGS.kept_share - kept_through(image, mask))
            for mask in map(rendered, met)
        ]
        np.testing.assert_allclose(vector, met[np.argmin(merits)], atol=1e-5)


def updated(kept, weight=1.0, weight_rate=2.0):
    """The state after one update at a share that is kept, from a multiplier."""
    vectors = (jnp.full((4, 4), 0.5), jnp.full((8, 8), 0.5))
    unknowns = Unknowns(vectors, jnp.zeros((SIDE, SIDE)))
    made = transformation(
        optax.sgd(0.1),
        BOX,
        steps=4,
        shape=(SIDE, SIDE),
        kept_share=0.9,
        weight_rate=weight_rate,
        rate_power=0.0,
    )
    state = made.init(unknowns)._replace(weight=jnp.float32(weight))
    gradient = Unknowns(
        (jnp.full((4, 4), 1 / 16), jnp.zeros((8, 8))), jnp.full((SIDE, SIDE), -1.0)
    )
    terms = {"kept": jnp.float32(kept)}
    return made.update(gradient, state, unknowns, terms=terms)


def test_the_weight_of_the_area_follows_the_share_that_is_kept():
    weights = [float(updated(kept)[1].weight) for kept in (0.2, 0.9, 1.0)]
    np.testing.assert_allclose(weights, np.exp(2.0 * np.array([-0.7, 0.0, 0.1])), rtol=1e-5)
    assert float(updated(0.2, weight_rate=0.0)[1].weight) == 1.0
    assert float(updated(-9.0, weight=0.1)[1].weight) == pytest.approx(LEAST_WEIGHT)
    assert float(updated(1.0, weight=4.9)[1].weight) == MOST_WEIGHT


def test_a_step_weighs_what_the_image_says_against_the_area():
    """Both parts have a root mean square of 1: at the weight 1 they cancel, above it the mask
    shrinks."""
    for weight, expected in ((0.0, 0.1), (1.0, 0.0), (2.0, -0.1)):
        moves, _ = updated(0.9, weight=weight)
        np.testing.assert_allclose(moves.vectors[0], expected, atol=1e-5)
        assert not np.any(moves.vectors[1])  # its turn has not come
    np.testing.assert_allclose(moves.evidence, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["square", "area"])
def test_gradients_go_where_they_belong(image, name):
    """What the image says goes to the evidence, what the mask alone says to the mask vectors."""
    terms = {"square": consistency("squared"), "area": area(2.0)}
    settings = replace(SETTINGS, objective=(terms[name],))
    key, shape = jax.random.key(0), (SIDE, SIDE)
    problem = begin(square_network, image, 0, node="logit", key=key, fill="black")
    weigh = objective_of_views(square_network, problem, node="logit", config=settings)
    vectors = tuple(jax.random.uniform(key, (cells, cells)) for cells in CELLS)
    step = jnp.int32(20)  # of the second size

    def objective(unknowns):
        through, itself = seen_mask(unknowns, BOX, step, settings.steps, shape)
        return weigh(through[None], itself[None], key, step)[0]

    def direct(mask):
        return weigh(mask[None], mask[None], key, step)[0]

    # evidence itself adds nothing to the mask
    unknowns = Unknowns(vectors, jnp.linspace(-1, 1, SIDE**2).reshape(shape))
    value, gradient = jax.value_and_grad(objective)(unknowns)
    mask = masks.render(vectors[1], shape)
    expected_value, expected = jax.value_and_grad(direct)(mask)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    if name == "area":
        assert not np.any(gradient.evidence)
        np.testing.assert_allclose(gradient.vectors[1].sum(), 2.0, rtol=1e-5)
    else:
        np.testing.assert_allclose(gradient.evidence, expected, atol=1e-6)
        assert np.any(expected)
        assert not any(map(np.any, gradient.vectors))
    assert not np.any(gradient.vectors[0])
    assert not np.any(gradient.vectors[2])


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_activation_changes_nothing(image, scale):
    def scaled(outputs, target):
        return scale * outputs[target]

    def solve(node):
        settings = replace(SETTINGS, steps=9)
        key = jax.random.key(0)
        return mdm.explain(square_network, image, 0, node=node, key=key, config=settings)

    plain, other = solve("logit"), solve(scaled)
    for a, b in zip(plain.mask_vectors, other.mask_vectors):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(plain.evidence, other.evidence, atol=1e-3)
    np.testing.assert_allclose(plain.saliency, other.saliency, atol=1e-4)


def test_many_images_are_solved_as_one_is(image):
    # no two pixels alike: rounding decides in which order a calibration shows equal ones
    image = image * jax.random.uniform(jax.random.key(1), image.shape, minval=0.5)
    images = jnp.stack([image, image[:, ::-1], jnp.roll(image, 4, axis=0)])
    settings = replace(SETTINGS, steps=6)

    def solve(image):
        key = jax.random.key(0)
        return mdm.explain(square_network, image, 0, node="logit", key=key, config=settings)

    together = jax.jit(jax.vmap(solve))(images)
    for i, each in enumerate(images):
        alone = jax.jit(solve)(each)
        np.testing.assert_allclose(together.saliency[i], alone.saliency, atol=1e-4)
        np.testing.assert_allclose(together.evidence[i], alone.evidence, atol=1e-3)


def test_a_mask_that_loses_the_activation_says_so(image):
    """The old default gives an image up where its one weight of the area is too much for it; the
    multiplier of the new one finds another."""
    images = np.asarray(image)[None]
    heavy = (consistency("lost_share"), area(1e5))
    old = replace(PRESETS["fast-2026-11"], objective=heavy)
    lost = explain(square_network, images, 0, node="logit", config=old)
    assert lost.info.status.tolist() == [Status.LOST]
    kept = explain(square_network, images, 0, node="logit")
    assert kept.info.status.tolist() == [Status.OUT_OF_STEPS]
