import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mdm_jax import InputError, fills, images


@pytest.fixture
def image():
    return jax.random.uniform(jax.random.key(1), (12, 10, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", fills.FILLS)
def test_every_fill_keeps_shape_range_and_repeats_with_its_key(name, image, key):
    fill = fills.resolve(name)
    filled = fill(image, key=key)
    assert filled.shape == image.shape
    assert 0 <= filled.min() <= filled.max() <= 1
    np.testing.assert_array_equal(filled, fill(image, key=key))


def test_mean_and_colors(image, key):
    np.testing.assert_allclose(
        fills.mean()(image, key=key)[3, 4], image.mean((0, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(
        fills.resolve(np.array([0.1, 0.2, 0.3]))(image, key=key)[0, 0],
        [0.1, 0.2, 0.3],
        rtol=1e-6,
    )
    np.testing.assert_allclose(fills.resolve(0.25)(image, key=key), 0.25)
    np.testing.assert_allclose(fills.image(image / 2)(image, key=key), image / 2)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_follows_scipy(sigma, image, key):
    expected = gaussian_filter(
        np.asarray(image), (sigma, sigma, 0), mode="reflect", truncate=8
    )
    np.testing.assert_allclose(fills.blur(sigma)(image, key=key), expected, atol=2e-4)


def test_blur_sigma_may_be_swept(image):
    swept = jax.vmap(lambda sigma: images.gaussian_blur(image, sigma))(
        jnp.array([0.5, 3.0])
    )
    assert swept[1].std() < swept[0].std()


def test_noise_depends_on_its_key(image):
    one, two = (fills.noise(0.2)(image, key=jax.random.key(seed)) for seed in (0, 1))
    assert not np.allclose(one, two)


def test_a_mixture_draws_one_of_its_fills(image):
    fill = fills.mixture("black", 1.0)
    drawn = [float(fill(image, key=jax.random.key(seed)).mean()) for seed in range(12)]
    assert set(drawn) == {0.0, 1.0}
    np.testing.assert_array_equal(
        fills.mixture("mean")(image, key=jax.random.key(0)),
        fills.mean()(image, key=jax.random.key(0)),
    )
    np.testing.assert_array_equal(
        fills.resolve((1.0, 0.0, 0.0))(image, key=jax.random.key(0))[3, 4], [1.0, 0.0, 0.0]
    )
    with pytest.raises(InputError, match="did you mean 'blur'"):
        fills.mixture("black", "blurr")


def test_a_tuple_takes_turns(image, key):
    first, second = fills.resolve_turns(("black", 1.0))
    assert float(first(image, key=key).mean()) == 0.0
    assert float(second(image, key=key).mean()) == 1.0
    assert (
        len(fills.resolve_turns("blur")) == len(fills.resolve_turns((1.0, 0.0, 0.0))) == 1
    )
    with pytest.raises(InputError, match="did you mean 'blur'"):
        fills.resolve_turns(("black", "blurr"))
    with pytest.raises(
        InputError, match="take turns from step to step, and here one is needed"
    ):
        fills.resolve(("black", 1.0, "blur"))


def test_any_function_is_a_fill(image, key):
    assert (
        fills.resolve(lambda image, *, key: image[::-1])(image, key=key)[0, 0, 0]
        == image[-1, 0, 0]
    )


def test_bad_fills():
    with pytest.raises(InputError, match="did you mean 'blur'"):
        fills.resolve("blurr")
    with pytest.raises(InputError, match="give a name, an array, or a function"):
        fills.resolve(None)
