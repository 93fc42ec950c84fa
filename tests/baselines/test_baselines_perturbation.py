"""Meaningful and extremal perturbation: the masks, the terms and the steps, and a network that
looks at one patch."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATCH, patch_network
from reference_network import captum, network

from mdm_jax import InputError, fills
from mdm_jax.baselines import extremal_perturbation as extremal
from mdm_jax.baselines import meaningful_perturbation as meaningful
from mdm_jax.baselines.extremal_perturbation import ExtremalPerturbation
from mdm_jax.baselines.meaningful_perturbation import MeaningfulPerturbation
from mdm_jax.baselines.smooth_masks import smoother
from mdm_jax.problem import begin

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def fixture():
    with np.load(pathlib.Path(__file__).parents[1] / "fixtures" / "cams.npz") as file:
        return captum() | {name: file[name] for name in file.files}


@pytest.mark.slow
def test_the_smooth_mask_and_the_energy_are_those_that_torch_computes(fixture):
    predict, image, parameters = (
        network(fixture),
        jnp.asarray(fixture["images"][0]),
        fixture["extremal/parameters"],
    )
    smooth = smoother((12, 10), cell=2.0, sigma=6.0)
    wide = jnp.stack(
        [smooth.render(jnp.asarray(each, jnp.float32), 20.0) for each in parameters]
    )
    np.testing.assert_allclose(wide, fixture["extremal/wide"], atol=1e-5)
    scale = meaningful.scale_of(image)
    for i, variant in enumerate(("preserve", "dual")):
        config = ExtremalPerturbation(
            areas=(0.2, 0.5), variant=variant, levels=4, max_blur=3.0 / scale, flip=False
        )
        pyramid = extremal.blur_pyramid(image, fills.neutral_color(predict, 3), config)
        problem = begin(predict, image, int(fixture["targets"][0]), node="logit", key=KEY)

        def energy(parameters, pyramid=pyramid, problem=problem, config=config):
            return extremal.energy(
                parameters,
                3,
                predict,
                problem,
                pyramid,
                smooth,
                node="logit",
                config=config,
            )

        (value, _), gradient = jax.jit(jax.value_and_grad(energy, has_aux=True))(
            jnp.asarray(parameters, jnp.float32)
        )
        np.testing.assert_allclose(value, fixture["extremal/energy"][i], rtol=1e-4)
        expected = fixture["extremal/gradient"][i]
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
        )
    seen = jnp.stack([extremal.read_pyramid(pyramid, smooth.crop(each)) for each in wide])
    np.testing.assert_allclose(seen, fixture["extremal/seen"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "cell", "sigma"),
    [((224, 224), 7, 21), ((64, 64), 2, 6), ((96, 128), 3, 9), ((33, 40), 1.03, 3.09)],
)
def test_the_mask_covers_the_image_with_a_margin(size, cell, sigma):
    smooth = smoother(size, cell=cell, sigma=sigma)
    wide = jax.eval_shape(lambda: smooth.render(jnp.ones(smooth.cells), 20.0)).shape
    assert all(out >= side + smooth.margin for out, side in zip(wide, size))
    assert smooth.cells == tuple(-(-side // round(cell)) for side in size)
    if size == (224, 224):
        assert (smooth.cells, wide, smooth.weights.shape[0], smooth.margin) == (
            (32, 32),
            (260, 260),
            9,
            21,
        )


def test_lengths_scale_with_the_image_whatever_the_rounding():
    assert [
        smoother((n, n), cell=7 * n / 224, sigma=21 * n / 224).weights.shape[0]
        for n in (64, 96, 192, 224)
    ] == [9] * 4


@pytest.mark.slow
def test_momentum_is_torchs_with_dampening(images):
    config = ExtremalPerturbation(
        steps=3, levels=3, cell=28.0, sigma=84.0, areas=(0.1, 0.3)
    )
    image = jnp.asarray(images[0])
    explanation = jax.jit(
        lambda x: extremal.explain(patch_network, x, 0, key=KEY, config=config, trace=True)
    )(image)
    pyramid = extremal.blur_pyramid(image, jnp.full(3, 0.5), config)
    problem = begin(patch_network, image, 0, node="logit", key=KEY)
    smooth = smoother((32, 32), cell=4.0, sigma=12.0)
    parameters, direction = jnp.ones((2, 8, 8)), None

    @jax.jit
    def step(parameters, t):
        return jax.value_and_grad(extremal.energy, has_aux=True)(
            parameters,
            t,
            patch_network,
            problem,
            pyramid,
            smooth,
            node="logit",
            config=config,
        )

    for t in range(3):
        np.testing.assert_allclose(
            jnp.stack(explanation.trace.mask_vectors)[:, t], parameters, atol=1e-5
        )
        (value, (seen, _)), gradient = step(parameters, jnp.int32(t))
        np.testing.assert_allclose(explanation.trace.objective[t], -value, rtol=1e-5)
        direction = gradient if t == 0 else 0.9 * direction + 0.1 * gradient
        parameters = jnp.clip(parameters + 0.01 * direction, 0, 1)
    np.testing.assert_allclose(explanation.attribution, seen.sum(0), atol=1e-5)
    assert np.abs(parameters - 1).max() > 1e-3
    assert explanation.info.evaluations == 6


@pytest.mark.slow
def test_variants_and_mirrored_images(images):
    image = jnp.asarray(images[0])
    smooth = smoother((32, 32), cell=4.0, sigma=12.0)
    problem = begin(patch_network, image, 0, node="logit", key=KEY)
    parameters = jax.random.uniform(KEY, (1, 8, 8))

    @jax.jit
    def rewards(parameters):
        def reward(step, predict=patch_network, **more):
            config = ExtremalPerturbation(levels=3, area_weight=0.0, **more)
            pyramid = extremal.blur_pyramid(image, jnp.full(3, 0.5), config)
            return extremal.energy(
                parameters,
                step,
                predict,
                problem,
                pyramid,
                smooth,
                node="logit",
                config=config,
            )[0]

        mirrored = (
            reward(0),
            reward(1),
            reward(1, lambda x: patch_network(x[:, :, ::-1])),
            reward(0, flip=False),
        )
        return mirrored, [reward(1, variant=variant) for variant in extremal.VARIANTS]

    (first, second, turned, straight), (preserve, delete, dual) = rewards(parameters)
    np.testing.assert_allclose([first, second], [turned, straight], rtol=1e-5)
    assert abs(first - second) > 0.1
    np.testing.assert_allclose(dual, preserve + delete, rtol=1e-5)
    assert delete < 0 < preserve


@pytest.mark.slow
def test_the_area_error_takes_the_largest_share_as_the_area():
    mask = jnp.asarray([[0.9, 0.1], [0.4, 0.2], [0.3, 0.8]])
    np.testing.assert_allclose(
        extremal.area_error(mask, 1 / 3),
        (0.1**2 + 0.2**2 + 0.4**2 + 0.2**2 + 0.3**2 + 0.1**2) / 6,
        rtol=1e-6,
    )
    assert extremal.area_error(jnp.asarray([0.0, 0.0, 1.0, 1.0])[None], 0.5) == 0
    pull = jax.grad(extremal.area_error)(jnp.ones((4, 5)), 0.1)
    np.testing.assert_allclose(
        pull, 2 * (1 - 0.1) / 20, rtol=1e-6
    )  # equals are pulled alike, to no side


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["preserve", "dual"])
def test_extremal_perturbation_finds_the_patch(images, variant):
    config = ExtremalPerturbation(
        areas=(0.0625, 0.125),
        variant=variant,
        steps=150,
        levels=4,
        cell=14.0,
        sigma=42.0,
        max_blur=140.0,
        flip=False,
        learning_rate=0.03,
    )
    found = jax.jit(
        lambda x: extremal.explain(patch_network, x, 0, key=KEY, config=config)
    )(jnp.asarray(images[0]))
    assert (
        found.saliency[PATCH].sum() / found.saliency.sum() > 0.25
    )  # the patch is a sixteenth of the image
    assert found.attribution[PATCH].mean() > 4 * found.attribution.mean()
    assert found.info.evaluations == 150 * 2 * (2 if variant == "dual" else 1)
    assert len(found.mask_vectors) == 2
    assert found.attribution.max() > 1.5  # the masks of both areas are added up


@pytest.mark.slow
def test_meaningful_perturbation_finds_the_patch(images):
    config = MeaningfulPerturbation(steps=60, cells=16, fill_blur=70.0, area_weight=1e-3)
    found = jax.jit(
        lambda x: meaningful.explain(
            patch_network, x, 0, key=KEY, config=config, trace=True
        )
    )(jnp.asarray(images[0]))
    assert found.saliency[PATCH].sum() / found.saliency.sum() > 0.25
    assert found.info.activation > 0.8
    assert found.trace.terms["score"][-1] < 0.5 * found.info.activation
    assert (found.info.evaluations, found.info.forwards) == (60, 35 + 3)
    assert found.trace.mask_vectors[0].shape == (60, 16, 16)


@pytest.mark.slow
def test_the_start_is_the_smallest_circle_that_destroys_the_score(images):
    config = MeaningfulPerturbation(cells=16, fill_blur=70.0)
    image = jnp.asarray(images[0])
    problem = begin(patch_network, image, 0, node="probability", key=KEY, fill="gray")
    mask, forwards = meaningful.first_mask(
        patch_network, problem, node="probability", config=config
    )
    circles = 1 - meaningful._circles((32, 32), 32 / 224)
    masked = circles[..., None] * images[0] + (1 - circles[..., None]) * 0.5
    score = np.asarray(jax.nn.softmax(patch_network(masked))[:, 0])
    left = (score - score[-1]) / (score[0] - score[-1])
    chosen = np.flatnonzero(left < 0.01)[0]
    assert 0 < chosen < 34
    np.testing.assert_allclose(mask, circles[chosen][1::2, 1::2], atol=1e-6)
    assert forwards == 35
    ones, forwards = meaningful.first_mask(
        patch_network,
        problem,
        node="probability",
        config=MeaningfulPerturbation(start="ones", cells=16),
    )
    assert forwards == 0
    assert ones.shape == (16, 16)
    assert (ones == 1).all()


@pytest.mark.slow
def test_total_variation_by_hand_and_its_gradient_where_the_mask_is_flat():
    mask = jnp.asarray([[0.0, 3.0], [4.0, 0.0]])
    expected = (16 + 9) ** 1.5 + 3.0**3 + 4.0**3
    np.testing.assert_allclose(meaningful.total_variation(mask, 3.0), expected, rtol=1e-6)
    for power in (1.0, 3.0):
        assert np.isfinite(
            jax.grad(meaningful.total_variation)(jnp.ones((3, 3)), power)
        ).all()


@pytest.mark.slow
def test_the_mask_is_drawn_in_blocks_then_blurred(images):
    config = MeaningfulPerturbation(mask_blur=0.0)
    mask = jax.random.uniform(KEY, (8, 8))
    drawn = meaningful.render_mask(mask, jnp.asarray(images[0]), config)
    np.testing.assert_allclose(drawn, np.kron(mask, np.ones((4, 4))), atol=1e-6)
    blurred = meaningful.render_mask(
        mask, jnp.asarray(images[0]), MeaningfulPerturbation(mask_blur=20.0)
    )
    assert (
        np.abs(np.diff(blurred, axis=0)).max() < 0.5 * np.abs(np.diff(drawn, axis=0)).max()
    )


def test_jitter_moves_the_image_by_less_than_it(images):
    image = jnp.asarray(images[0])
    moved = jax.jit(lambda key: meaningful._shift(image, key, 3))
    seen = set()
    for key in jax.random.split(KEY, 20):
        shifts = [
            (i, j)
            for i in range(3)
            for j in range(3)
            if np.array_equal(moved(key)[: 32 - i, : 32 - j], image[i:, j:])
        ]
        assert len(shifts) == 1
        seen.update(shifts)
    assert len(seen) > 3
    np.testing.assert_array_equal(meaningful._shift(image, KEY, 1), image)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ExtremalPerturbation(variant="keep"), "unknown variant"),
        (ExtremalPerturbation(areas=()), "give shares of the image between 0 and 1"),
        (
            ExtremalPerturbation(areas=(0.1, 1.0)),
            "give shares of the image between 0 and 1",
        ),
        (ExtremalPerturbation(levels=1), "levels is 1"),
        (MeaningfulPerturbation(start="one"), "did you mean 'ones'"),
        (MeaningfulPerturbation(steps=0), "steps is 0"),
        (MeaningfulPerturbation(jitter=-1), "jitter is -1"),
        (
            MeaningfulPerturbation(learning_rate=-0.1),
            "learning_rate is -0.1: give a number above zero",
        ),
        (MeaningfulPerturbation(mask_blur=float("nan")), "mask_blur is nan"),
        (ExtremalPerturbation(area_weight=0.0), "area_weight is 0.0"),
        (ExtremalPerturbation(growth=float("inf")), "growth is inf"),
    ],
)
def test_settings_that_cannot_be(config, message):
    with pytest.raises(InputError, match=message):
        config.check()


def test_bumps_that_leave_holes():
    with pytest.raises(InputError, match="less than the 8 pixels of a cell"):
        smoother((32, 32), cell=8, sigma=4)
