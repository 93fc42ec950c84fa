import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads

from mdm_jax import InputError, masks

UNIT = st.floats(0, 1, width=32)


@pytest.mark.parametrize(
    ("cells", "pixels"), [(4, 32), (7, 32), (5, 30), (1, 9), (8, 8), (3, 17)]
)
def test_interpolation_follows_jax_image_resize(cells, pixels):
    vector = np.random.default_rng(0).uniform(size=(cells, 2)).astype(np.float32)
    expected = jax.image.resize(vector, (pixels, 2), "linear", antialias=False)
    np.testing.assert_allclose(
        masks.bilinear_matrix(cells, pixels) @ vector, expected, atol=1e-6
    )


def test_render_of_known_vector():
    rendered = masks.render(jnp.array([[0.0, 1.0]]), (2, 4))
    np.testing.assert_allclose(rendered, [[0, 0.25, 0.75, 1.0]] * 2, atol=1e-7)


def test_render_gradient_is_the_transpose():
    vector = jax.random.uniform(jax.random.key(0), (3, 5))
    check_grads(
        lambda v: masks.render(jnp.asarray(v), (12, 15)),
        (vector,),
        order=1,
        modes=["fwd", "rev"],
        atol=1e-2,
        rtol=1e-2,
    )
    pulled = jax.vjp(lambda v: masks.render(v, (12, 15)), vector)[1](jnp.ones((12, 15)))[0]
    np.testing.assert_allclose(
        pulled, np.full((3, 5), 12.0), rtol=1e-5
    )  # a cell is 4 x 3 pixels


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (4, 6), elements=UNIT))
def test_render_stays_in_range_and_keeps_the_mean(vector):
    rendered = np.asarray(masks.render(jnp.asarray(vector), (16, 24)))
    assert rendered.min() >= vector.min() - 1e-6
    assert rendered.max() <= vector.max() + 1e-6
    assert rendered.mean() == pytest.approx(vector.mean(), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float32, (5, 7), elements=st.floats(-(2**20), 2**20, width=32)))
def test_normalize_spans_the_unit_interval_or_is_zero(mask):
    normalized = np.asarray(masks.normalize(jnp.asarray(mask)))
    assert np.isfinite(normalized).all()
    assert normalized.min() == 0.0
    assert normalized.max() in (0.0, pytest.approx(1.0, abs=1e-6))


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, -2.0])
def test_constant_map_normalizes_to_zeros(value):
    mask = jnp.full((4, 4), value)
    assert not masks.normalize(mask).any()
    assert np.isfinite(jax.grad(lambda m: masks.normalize(m).sum())(mask)).all()


def test_stack_weighs():
    two = jnp.stack([jnp.zeros((2, 2)), jnp.ones((2, 2))])
    np.testing.assert_allclose(masks.stack(two), 0.5)
    np.testing.assert_allclose(masks.stack(two, jnp.array([1.0, 3.0])), 0.75)


@pytest.mark.parametrize("name", masks.PARAMETRIZATIONS)
def test_parametrizations_invert_and_stay_in_the_box(name):
    parametrization = masks.parametrization(name)
    vector = jnp.linspace(0.05, 0.95, 12).reshape(3, 4)
    np.testing.assert_allclose(
        parametrization.decode(parametrization.encode(vector)), vector, atol=1e-6
    )
    far = parametrization.decode(parametrization.project(jnp.array([[-50.0, 50.0]])))
    np.testing.assert_allclose(far, [[0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize("name", masks.PARAMETRIZATIONS)
def test_gradient_flows_at_an_all_ones_start(name, key):
    parametrization = masks.parametrization(name)
    (vector,) = masks.start("ones", [(3, 3)], key=key)
    gradient = jax.grad(lambda p: parametrization.decode(p).sum())(
        parametrization.encode(vector)
    )
    assert (gradient > 0.01).all()


def test_starts(key):
    sizes = [(2, 3), (4, 4)]
    assert all((v == 1).all() for v in masks.start("ones", sizes, key=key))
    assert all((v == 0.5).all() for v in masks.start("half", sizes, key=key))
    assert all(np.allclose(v, 0.2) for v in masks.start(0.2, sizes, key=key))
    first, second = masks.start("random", sizes, key=key)
    assert first.shape == (2, 3)
    assert 0 <= second.min() < second.max() <= 1
    warm = masks.start(
        np.repeat(np.arange(4.0), 2)[:, None] * np.ones(8), [(4, 4)], key=key
    )
    np.testing.assert_allclose(warm[0][:, 0], [0, 1, 2, 3], atol=1e-6)


def test_sizes():
    assert masks.resolve_sizes(None, (64, 64)) == ((8, 8), (16, 16), (32, 32))
    assert masks.resolve_sizes(None, (224, 448)) == ((7, 14), (14, 28), (28, 56), (56, 112))
    assert masks.resolve_sizes(None, (10, 10)) == ((8, 8), (10, 10), (10, 10))
    assert masks.resolve_sizes([5, (3, 9)], (32, 32)) == ((5, 5), (3, 9))


@pytest.mark.parametrize("sizes", [[], [0], [33], [(4, 40)], [(-1, 4)]])
def test_bad_sizes(sizes):
    with pytest.raises(InputError, match="size"):
        masks.resolve_sizes(sizes, (32, 32))


def test_bad_names(key):
    with pytest.raises(InputError, match="did you mean 'ones'"):
        masks.start("one", [(2, 2)], key=key)
    with pytest.raises(InputError, match="did you mean 'sigmoid'"):
        masks.parametrization("sigmod")
