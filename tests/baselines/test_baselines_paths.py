"""I-GOS, iGOS++, SAMP, guided and blur integrated gradients: what torch and PAIR's saliency compute
on the same network (`fixtures/make_paths.py`), and what cannot be asked."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_network import captum, network

from mdm_jax import InputError, explain
from mdm_jax.baselines import igos, igos_pp, samp
from mdm_jax.baselines.blur_ig import BlurIG
from mdm_jax.baselines.guided_ig import GuidedIG, integrate_guided
from mdm_jax.baselines.igos import IGOS
from mdm_jax.baselines.igos_pp import IGOSPlusPlus
from mdm_jax.baselines.integrated_mask_steps import descend
from mdm_jax.baselines.integrated_masks import blur, channel_deviation, make_loss
from mdm_jax.baselines.meaningful_perturbation import REFERENCE_SIDE
from mdm_jax.baselines.samp import SAMP, walk
from mdm_jax.problem import begin

KEY = jax.random.key(0)
SHORT = 10
"""pixels of the short side of the fixture's images"""


@pytest.fixture(scope="module")
def reference():
    path = pathlib.Path(__file__).parents[1] / "fixtures" / "paths.npz"
    with np.load(path) as file:
        return captum() | {name: file[name] for name in file.files}


def assert_parity(got, expected, tolerance=1e-4):
    assert np.abs(np.asarray(got) - expected).max() <= tolerance * np.abs(expected).max()


def test_the_blurred_image_of_igos(reference):
    blurred = jax.vmap(lambda image: blur(image, 5))(reference["images"])
    assert_parity(blurred, reference["igos/background"], 1e-5)
    assert blur(jnp.ones((3, 2, 1)), 7) == pytest.approx(
        1.0, abs=1e-6
    )  # wider than the image


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["line_search", "nesterov"])
@pytest.mark.parametrize("name", ["igos", "igos_pp"])
def test_masks_after_every_iteration_are_torchs(name, optimizer, reference):
    predict, drawn = network(reference), jnp.asarray(reference["igos/noise"])
    shared = {"steps": 4, "area_weight": 0.1, "smoothness_weight": 2.0}
    if name == "igos":
        config, method = IGOS(**shared), (igos.DELETION, igos.penalty)
    else:
        config = IGOSPlusPlus(**shared, edge_sigma=0.5)
        method = (igos_pp.BILATERAL, igos_pp.penalty)

    def one(image, target, background):
        problem = begin(
            predict, image, target, node="probability", key=KEY, fill=background
        )
        loss = make_loss(
            predict,
            problem,
            lambda t, i: drawn[t, i],
            node="probability",
            config=config,
            method=method,
        )
        start = (jnp.ones((6, 5)),) * method[0].uses.shape[1]
        options = {"iterations": 3, "optimizer": optimizer, "rate": 20.0, "record": True}
        last, records = descend(loss, start, **options)
        return jnp.stack(last.vectors), jnp.stack(records.vectors, 1), records

    arguments = [
        reference[key].astype(kind)
        for key, kind in (("images", "f4"), ("targets", "i4"), ("igos/background", "f4"))
    ]
    last, before, records = jax.jit(jax.vmap(one))(*arguments)
    expected = reference[f"{name}/{optimizer}"]
    assert expected[:, -1].std() > 0.01  # the masks did move
    after = np.concatenate([before[:, 1:], last[:, None]], axis=1)
    assert_parity(after, expected)
    assert_parity(records.value, reference[f"{name}/{optimizer}/value"])
    if optimizer == "line_search":
        tried = np.diff(records.trials, prepend=0, axis=1)
        np.testing.assert_array_equal(tried, reference[f"{name}/trials"])


@pytest.mark.slow
def test_igos_counts_its_evaluations_and_keeps_its_masks(reference):
    config = IGOSPlusPlus(iterations=2, steps=3, cells=5, blur_kernel=130, area_weight=0.1)
    found = explain(
        network(reference),
        reference["images"].astype(np.float32),
        reference["targets"].astype(int),
        method="igos_pp",
        config=config,
        trace=True,
    )
    np.testing.assert_array_equal(found.info.evaluations, 2 * 4 * 3)
    trials = (found.info.forwards - 3) / (4 * 3)
    assert (trials >= 2).all()
    assert (trials == np.round(trials)).all()
    assert [vector.shape for vector in found.mask_vectors] == [(2, 6, 5)] * 2
    assert [each.shape for each in found.trace.mask_vectors] == [(2, 2, 6, 5)] * 2
    assert not np.asarray(found.trace.mask_vectors[0][:, 0]).any()  # nothing is left out
    assert found.attribution.max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bounded", "free"])
def test_samp_walks_as_torch_does(name, reference):
    predict = network(reference)
    bound, momentum, node = {
        "bounded": (1.0, 0.5, "probability"),
        "free": (1e3, 0.0, "logit"),
    }[name]
    config = SAMP(step_share=10 / 120, step_bound=bound, momentum=momentum)

    def one(image, target, low):
        starts, ends = jnp.stack([image, low]), jnp.stack([0.0 * image, image])
        signs = jnp.asarray([-1.0, 1.0])

        def go(start, end, sign):
            return walk(predict, start, end, target, sign, node=node, config=config)

        both = jax.vmap(go)(starts, ends, signs)
        return (signs[:, None, None, None] * both.attribution).sum(0), both

    arguments = [
        reference[key].astype(kind)
        for key, kind in (("images", "f4"), ("targets", "i4"), ("samp/blurred", "f4"))
    ]
    attribution, both = jax.jit(jax.vmap(one))(*arguments)
    assert_parity(attribution, reference[f"samp/{name}"])
    np.testing.assert_array_equal(both.steps, reference[f"samp/{name}/steps"])
    np.testing.assert_array_equal(both.place[:, 1], arguments[0])


def test_samp_adds_up_to_the_change_of_a_linear_node():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 7, 3)), jnp.float32)

    def predict(images):
        score = (images * weights).sum((1, 2, 3))
        return jnp.stack([score, jnp.zeros_like(score)], axis=-1)

    image = jnp.asarray(np.random.default_rng(1).uniform(size=(6, 7, 3)), jnp.float32)
    last = walk(
        predict,
        jnp.zeros_like(image),
        image,
        jnp.int32(0),
        1.0,
        node="logit",
        config=SAMP(),
    )
    np.testing.assert_allclose(last.attribution, weights * image, atol=1e-5)
    still = samp.walk(predict, image, image, jnp.int32(0), 1.0, node="logit", config=SAMP())
    assert still.steps == 0


@pytest.mark.slow
def test_guided_integrated_gradients_are_pairs(reference):
    predict = network(reference)
    config = GuidedIG(steps=12, fraction=0.25, max_distance=0.1)
    start = jnp.broadcast_to(
        jnp.asarray(predict.preprocessing.mean), reference["images"].shape[1:]
    )

    def one(image, target):
        return integrate_guided(predict, start, image, target, node="logit", config=config)

    arguments = [reference["images"].astype("f4"), reference["targets"].astype("i4")]
    assert_parity(jax.jit(jax.vmap(one))(*arguments), reference["guided_ig"])


@pytest.mark.slow
def test_blur_integrated_gradients_are_pairs(reference):
    config = BlurIG(steps=10, max_sigma=3.0 * REFERENCE_SIDE / SHORT, chunk=4)
    found = explain(
        network(reference),
        reference["images"].astype(np.float32),
        reference["targets"].astype(int),
        method="blur_ig",
        config=config,
    )
    assert_parity(found.attribution, reference["blur_ig"].sum(-1))
    np.testing.assert_array_equal(found.info.evaluations, 10)


def test_a_network_tells_its_channels_deviation(reference):
    own = channel_deviation(network(reference), 3)
    np.testing.assert_allclose(own, (0.25, 0.2, 0.3))
    np.testing.assert_allclose(channel_deviation(lambda x: x, 1), (0.25,))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (lambda: IGOS(iterations=0), "iterations is 0"),
        (lambda: IGOS(optimizer="nesterow"), "did you mean 'nesterov'"),
        (lambda: IGOSPlusPlus(edge_sigma=0.0), "edge_sigma is 0.0"),
        (lambda: IGOSPlusPlus(noise_level=-1.0), "noise_level is -1.0"),
        (lambda: SAMP(step_share=1.5), "step_share is 1.5"),
        (lambda: SAMP(momentum=1.0), "momentum is 1.0"),
        (lambda: SAMP(removed="blak"), "did you mean 'black'"),
        (lambda: GuidedIG(max_distance=0.0), "max_distance is 0.0"),
        (lambda: GuidedIG(fraction=1.0), "fraction is 1.0"),
        (lambda: BlurIG(steps=0), "steps is 0"),
    ],
)
def test_settings_that_cannot_be(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        settings().check()
