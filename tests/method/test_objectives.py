import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mdm_jax import InputError, objectives


def view(
    activation, reference, mask=None, fill_activation=0.0, complement=None, direction=1.0
):
    mask = jnp.ones((4, 4)) if mask is None else mask
    image = jnp.zeros((*mask.shape, 3))
    activation, reference, fill_activation = (
        jnp.asarray(value) for value in (activation, reference, fill_activation)
    )
    complement = None if complement is None else jnp.asarray(complement)
    return objectives.View(
        mask,
        activation,
        reference,
        image,
        image,
        None,
        jnp.int32(0),
        fill_activation,
        jnp.float32(0.5),
        complement,
        direction,
    )


def test_scalar_distances():
    seen = view(0.5, 0.8)
    values = {
        name: float(distance(seen)) for name, distance in objectives.DISTANCES.items()
    }
    cross = -(0.8 * np.log(0.5) + 0.2 * np.log(0.5))
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    expected = {
        "absolute": 0.3,
        "squared": 0.09,
        "relative": 0.375,
        "share": 0.375,
        "lost_share": 0.375,
        "shortfall": 0.3,
        "kl": cross - entropy,
        "cross_entropy": cross,
    }
    assert values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view(0.6, 0.8, fill_activation=0.3), 0.4),
        # what exceeds the original counts below 0
        (view(0.9, 0.8, fill_activation=0.3), -0.2),
        # of a distance less is more
        (view(3.0, 1.0, fill_activation=6.0, direction=-1.0), 0.4),
        (view(0.5, 1.0, fill_activation=6.0, direction=-1.0), -0.1),
        # the fill alone speaks more for the class: what is lost counts as lost all the same
        (view(0.2, 0.8, fill_activation=0.9), 0.6 / 0.24),
        (view(0.9, 0.8, fill_activation=0.9), -0.1 / 0.24),
    ],
)
def test_a_signed_drop_follows_the_direction_of_the_node(seen, expected):
    assert objectives.signed_drop(seen) == pytest.approx(expected, rel=1e-4)
    assert seen.kept == pytest.approx(1.0 - max(0.0, expected), abs=1e-4)


def test_elements_of_a_vector_have_directions_of_their_own():
    seen = view([0.5, -0.5], [1.0, -1.0], fill_activation=[0.0, 0.0])
    assert objectives.signed_drop(seen) == pytest.approx(0.5)


def test_shares_are_the_same_for_a_similarity_and_a_distance():
    similarity = view(0.6, 0.8, fill_activation=0.3, complement=0.4)
    distance = view(
        3.0, 1.0, fill_activation=6.0, complement=5.0
    )  # small where the image fits
    assert objectives.relative_change(similarity) == pytest.approx(0.2 / 0.5)
    assert objectives.relative_change(distance) == pytest.approx(2 / 5)
    assert objectives.relative_drop(similarity) == objectives.relative_change(similarity)
    assert objectives.relative_drop(distance) == objectives.relative_change(distance)
    assert objectives.relative_drop(view(0.76, 0.8, fill_activation=0.79)) == pytest.approx(
        0.04 / 0.24, rel=1e-4
    )  # and not 4
    assert (
        objectives.relative_drop(view(0.9, 0.8, fill_activation=0.3)) == 0
    )  # more similar than the original
    assert (
        objectives.relative_drop(view(0.5, 1.0, fill_activation=6.0)) == 0
    )  # nearer than the original
    assert objectives.complement_activity(similarity) == pytest.approx(0.1 / 0.5)
    assert objectives.complement_activity(distance) == pytest.approx(1 / 5)
    assert (
        objectives.complement_activity(view(0.6, 0.8, fill_activation=0.3, complement=0.2))
        == 0
    )  # less than the fill is nothing missed
    assert (
        objectives.complement_activity(view(3.0, 1.0, fill_activation=6.0, complement=7.0))
        == 0
    )
    with pytest.raises(InputError, match="needs_complement=True"):
        objectives.complement_activity(view(0.6, 0.8))


def test_to_activate_more_than_the_original_costs_no_shortfall():
    assert objectives.shortfall(view(0.9, 0.8)) == 0
    assert objectives.shortfall(view([0.5, 3.0], [1.0, 1.0])) == pytest.approx(0.25)


def test_negative_log_likelihood_falls_with_the_probability_whatever_the_original_says():
    assert (
        objectives.negative_log_likelihood(view(0.5, 0.8))
        == objectives.negative_log_likelihood(view(0.5, 0.1))
        == pytest.approx(np.log(2))
    )
    assert objectives.negative_log_likelihood(view(1.0, 0.8)) == 0
    assert jnp.isfinite(objectives.negative_log_likelihood(view(0.0, 0.8)))


def test_late_area_grows_with_the_progress():
    mask = jnp.full((4, 4), 0.5)
    for progress in (0.0, 0.25, 0.75):
        seen = view(0.0, 0.0, mask)._replace(progress=jnp.float32(progress))
        assert objectives.late_area(seen) == pytest.approx(progress * 0.5)


def test_vector_distances():
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    seen = view(np.log(q).astype(np.float32) + 5, np.log(p).astype(np.float32))
    assert objectives.kl(seen) == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4)
    assert objectives.cross_entropy(seen) == pytest.approx(-(p * np.log(q)).sum(), rel=1e-4)
    assert objectives.absolute(view([0.0, 3.0], [1.0, 1.0])) == pytest.approx(1.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", objectives.DISTANCES)
def test_distances_are_least_where_nothing_changed(name):
    def distance(activation):
        return objectives.DISTANCES[name](view(activation, 0.8))

    assert distance(0.8) <= min(distance(0.7), distance(0.9))
    assert jnp.isfinite(jax.grad(distance)(0.8))
    check_grads(distance, (0.6,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", objectives.DISTANCES)
@pytest.mark.parametrize("reference", [0.0, 1.0])
def test_distances_are_finite_at_the_ends(name, reference):
    value, gradient = jax.value_and_grad(
        lambda a: objectives.DISTANCES[name](view(a, reference))
    )(1.0 - reference)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient)


def test_area_and_variation():
    mask = jnp.zeros((4, 4)).at[:, :2].set(1.0)
    assert objectives.mask_area(view(0.0, 0.0, mask)) == 0.5
    assert objectives.mask_variation(view(0.0, 0.0, mask)) == pytest.approx(4 / 12)


def test_total_adds_weighted_terms_and_reports_each():
    def darkness(seen):
        return 1.0 - seen.mask.mean()

    terms = (
        objectives.consistency("absolute", 2.0),
        objectives.area(3.0),
        objectives.term(darkness, 0.5),
    )
    value, values = objectives.total(terms, view(0.5, 0.9, jnp.full((4, 4), 0.25)))
    assert {name: float(v) for name, v in values.items()} == pytest.approx(
        {"absolute": 0.4, "area": 0.25, "darkness": 0.75}
    )
    assert value == pytest.approx(2 * 0.4 + 3 * 0.25 + 0.5 * 0.75)


def test_a_term_that_is_no_number_is_told():
    terms = (
        objectives.consistency(),
        objectives.term(lambda seen: seen.mask, name="whole"),
    )
    with pytest.raises(
        InputError, match=r"'whole' has the shape \(4, 4\): return one number"
    ):
        objectives.total(terms, view(0.5, 0.9, jnp.full((4, 4), 0.25)))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((), "no terms"),
        ((objectives.area(-1.0),), "not negative"),
        ((objectives.area(float("nan")),), "finite"),
        ((objectives.area(1.0), objectives.area(2.0)), "named alike"),
    ],
)
def test_bad_objectives(terms, message):
    with pytest.raises(InputError, match=message):
        objectives.check(terms)


def test_terms_from_a_file():
    terms = objectives.from_mapping({"squared": 1.0, "area": 2.0, "removal": 0.5})
    assert [(each.name, each.weight, each.needs_complement) for each in terms] == [
        ("squared", 1.0, False),
        ("area", 2.0, False),
        ("removal", 0.5, True),
    ]
    assert terms[2] == objectives.removal(0.5)
    with pytest.raises(InputError, match="did you mean 'area'"):
        objectives.from_mapping({"are": 1.0})
    with pytest.raises(InputError, match="did you mean 'absolute'"):
        objectives.consistency("absolut")


def test_names_of_before_are_accepted_with_a_warning():
    with pytest.warns(DeprecationWarning, match="lost_share is now .*relative_drop"):
        assert objectives.lost_share is objectives.relative_drop
    seen = view(0.5, 0.8, fill_activation=0.3, complement=0.4)
    with pytest.warns(DeprecationWarning, match="View.nothing is now View.fill_activation"):
        assert seen.nothing == seen.fill_activation
    with pytest.warns(
        DeprecationWarning, match="View.rest is now View.complement_activation"
    ):
        assert seen.rest == seen.complement_activation
    own = objectives.term(lambda view: view.mask.mean(), needs_rest=True)
    assert own.needs_complement
    with pytest.warns(
        DeprecationWarning, match="Term.needs_rest is now Term.needs_complement"
    ):
        assert own.needs_rest
    with pytest.raises(AttributeError, match="no attribute 'share_of'"):
        objectives.share_of  # noqa: B018
