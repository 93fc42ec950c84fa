"""The method: right on a network whose answer is known, exact under jit, vmap, sweeps and
schedules."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import PATCH, patch_network, unchecked
from jax.test_util import check_grads

from mdm_jax import (
    InputError,
    MDMConfig,
    Status,
    area,
    config,
    config_files,
    consistency,
    evidence,
    explain,
    mdm,
    removal,
    term,
    total_variation,
)
from mdm_jax.execution.keys import step_keys

PRESETS = config.PRESETS

# the default until November 2026: properties of its schedule are tested on it
JOINT = PRESETS["fast-2026-11"]
SEQUENCE = MDMConfig()


def share_in_patch(saliency):
    return saliency[:, *PATCH].sum((1, 2)) / saliency.sum((1, 2))


@pytest.mark.parametrize("schedule", ["joint", "independent"])
@pytest.mark.parametrize("parametrization", ["sigmoid", "box"])
def test_linear_network_with_one_patch_is_solved(images, schedule, parametrization):
    settings = replace(
        JOINT,
        sizes=(16, 32),
        schedule=schedule,
        parametrization=parametrization,
        start="ones",
        fill="black",
        objective=(consistency(), area(3.0)),
        learning_rate=0.5 if parametrization == "sigmoid" else 0.05,
        steps=60,
    )
    explanation = explain(patch_network, images, targets=0, config=settings)
    assert (share_in_patch(explanation.saliency) >= 0.9).all()
    np.testing.assert_allclose(explanation.info.kept_area, 64 / 1024, rtol=0.05)
    np.testing.assert_allclose(
        explanation.info.activation_masked, explanation.info.activation, atol=0.05
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_presets_find_the_patch(images, name):
    explanation = explain(patch_network, images, targets=0, config=name)
    chance = 64 / 1024
    assert (share_in_patch(explanation.saliency) > 6 * chance).all()
    views = 3 if name == "paper" else 1
    assert (explanation.info.evaluations == views * PRESETS[name].steps).all()


@pytest.mark.slow
def test_objective_gradients_agree_with_finite_differences(tiny, images, key):
    settings = replace(
        JOINT,
        sizes=(2, (3, 4)),
        objective=(consistency("squared"), area(0.3), total_variation(0.2)),
    )
    problem = mdm.begin(
        tiny, jnp.asarray(images[0]), 1, node="logit", key=key, fill=settings.fill
    )
    made = mdm.make_solver(tiny, problem, node="logit", config=settings)

    def objective(parameters):
        state, _ = made.step(made.init(jax.tree.map(jnp.asarray, parameters)), key)
        return state.last.objective

    parameters = tuple(jax.random.normal(key, size) for size in ((2, 2), (3, 4)))
    check_grads(
        jax.jit(objective),
        (parameters,),
        order=1,
        modes=["rev"],
        atol=2e-2,
        rtol=2e-2,
        eps=1e-2,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "base",
    [JOINT, replace(JOINT, schedule="independent"), SEQUENCE],
    ids=lambda base: base.schedule,
)
def test_jit_equals_eager(tiny, images, key, base):
    # Adam's first step is a sign, which rounding turns where the gradient is nearly 0
    settings = replace(
        base,
        sizes=(4, 8),
        steps=2,
        start="half",
        optimizer=optax.sgd,
        learning_rate=0.5,
    )

    def one(image):
        return mdm.explain(tiny, image, 1, key=key, config=settings)

    with jax.disable_jit():
        eager = one(jnp.asarray(images[0]))
    compiled = jax.jit(one)(jnp.asarray(images[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), compiled, eager)


@pytest.mark.slow
def test_numeric_hyperparameters_are_swept_by_vmap(images, key):
    image, shares = jnp.asarray(images[0]), jnp.array([0.3, 0.8, 0.99])
    base = MDMConfig(sizes=(4, 8), steps=6, fill="black")

    def kept(share, rate):
        settings = replace(base, kept_share=share, learning_rate=rate)
        return mdm.explain(patch_network, image, 0, key=key, config=settings).info.kept_area

    swept = jax.jit(jax.vmap(kept, in_axes=(0, None)))(shares, jnp.float32(0.1))
    single = [float(jax.jit(kept)(share, jnp.float32(0.1))) for share in shares]
    np.testing.assert_allclose(swept, single, atol=1e-5)
    assert swept[0] < swept[2]
    rates = jax.vmap(kept, in_axes=(None, 0))(shares[0], jnp.array([0.01, 0.1]))
    assert rates[0] > rates[1]


@pytest.mark.slow
def test_independent_scales_do_not_influence_each_other(tiny, images):
    settings = replace(
        JOINT, sizes=(4, 8), schedule="independent", steps=5, coarse_to_fine=None
    )
    together = explain(tiny, images[:1], targets=1, config=settings)
    alone = explain(tiny, images[:1], targets=1, config=replace(settings, sizes=(8,)))
    np.testing.assert_allclose(together.mask_vectors[1], alone.mask_vectors[0], atol=1e-5)
    assert together.info.evaluations[0] == 2 * alone.info.evaluations[0]


@pytest.mark.slow
def test_stacking_weights_choose_the_scale(tiny, images):
    settings = replace(
        JOINT, sizes=(4, 8), stack_weights=(0.0, 1.0), steps=5, coarse_to_fine=None
    )
    weighted = explain(tiny, images[:1], targets=1, config=settings)
    alone = explain(
        tiny,
        images[:1],
        targets=1,
        config=replace(settings, sizes=(8,), stack_weights=None),
    )
    np.testing.assert_allclose(weighted.saliency, alone.saliency, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "forwards"), [(JOINT, 3), (SEQUENCE, 3 + len(evidence.LEVELS))]
)
def test_reported_numbers_are_true(images, base, forwards):
    settings = replace(
        base, sizes=(4,), steps=3, fill="black", objective=(consistency(), area(10.0))
    )
    explanation = explain(patch_network, images, targets=0, node="logit", config=settings)
    info = explanation.info
    clean = np.asarray(patch_network(images))[:, 0]
    np.testing.assert_allclose(info.activation, clean, rtol=1e-5)
    np.testing.assert_allclose(info.activation_fill, -3.0, rtol=1e-5)
    np.testing.assert_allclose(
        info.kept_area, explanation.mask_vectors[0].mean((1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        info.objective, info.terms["lost_share"] + 10.0 * info.terms["area"], rtol=1e-5
    )
    assert (info.steps == 3).all()
    assert (info.forwards == forwards).all()


@pytest.mark.slow
def test_user_terms_steer_the_mask(images):
    def top_half(view):
        return view.mask[:16].mean()

    plain = replace(
        JOINT,
        sizes=(4, 8),
        steps=20,
        objective=(consistency(), area(10.0)),
        learning_rate=0.5,
        coarse_to_fine=None,
    )
    steered = replace(plain, objective=(*plain.objective, term(top_half, 50.0)))
    one, two = (
        explain(patch_network, images, targets=0, config=c) for c in (plain, steered)
    )
    assert (two.info.terms["top_half"] < 0.1).all()
    in_patch = np.s_[:, 2:4, 4:6]
    assert (one.mask_vectors[1][in_patch] > 0.5).all()
    assert (two.mask_vectors[1][in_patch] < 0.1).all()


@pytest.mark.slow
def test_until_converged_reports_status_per_image(images):
    settings = replace(
        JOINT,
        sizes=(4, 8),
        objective=(consistency("lost_share"), area(3.0)),  # 30 would give the patch up
        steps=300,
        until_converged=True,
        tolerance=1e-3,
    )
    info = explain(patch_network, images, targets=0, config=settings).info
    assert (info.status == Status.CONVERGED).all()
    assert (info.steps < 300).all()
    short = explain(
        patch_network, images, targets=0, config=replace(settings, steps=2)
    ).info
    assert (short.status == Status.OUT_OF_STEPS).all()


@pytest.mark.slow
def test_trace_follows_the_reasoning(images, quick):
    explanation = explain(patch_network, images, targets=0, config=quick, trace=True)
    trace = explanation.trace
    assert [v.shape for v in trace.mask_vectors] == [(3, 4, 4, 4), (3, 4, 8, 8)]
    np.testing.assert_allclose(trace.mask_vectors[0][:, 0], quick.start, atol=1e-3)
    np.testing.assert_array_equal(trace.objective[:, -1], explanation.info.objective)
    assert (trace.terms["area"][:, -1] < trace.terms["area"][:, 0]).all()
    assert explain(patch_network, images, targets=0, config=quick).trace is None


@pytest.mark.slow
def test_random_fill_drawn_at_every_step(images, key):
    def white_noise(image, *, key):
        return jax.random.uniform(key, image.shape)

    base = MDMConfig(
        sizes=(4,),
        fill=white_noise,
        steps=2,
        objective=(consistency("squared"), area(0.1)),
        start="half",
    )
    once, anew = (
        explain(
            patch_network,
            images,
            targets=0,
            config=replace(base, redraw_fill=redraw),
            trace=True,
        ).trace
        for redraw in (False, True)
    )
    assert not np.allclose(once.objective[:, 1], anew.objective[:, 1], atol=1e-7)


@pytest.mark.slow
def test_warm_start_from_a_map(images):
    warm = np.zeros((32, 32), np.float32)
    warm[PATCH] = 1.0
    explanation = explain(
        patch_network,
        images,
        targets=0,
        config=MDMConfig(sizes=(4,), start=warm, steps=1),
        trace=True,
    )
    first = explanation.trace.mask_vectors[0][0, 0]
    assert first[1, 2] > 0.7
    assert first[3, 0] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "optimizer"),
    [
        *((SEQUENCE, each) for each in (optax.sgd, optax.lion, optax.adamw)),
        *((JOINT, each) for each in (optax.sgd, optax.adam(0.3), optax.lbfgs())),
    ],
)
def test_any_optimizer(images, base, optimizer):
    settings = replace(base, sizes=(4,), optimizer=optimizer, learning_rate=0.2, steps=3)
    info = explain(patch_network, images, targets=0, config=settings).info
    assert (info.status != Status.NOT_FINITE).all()
    assert (info.kept_area < 0.98).all()


@pytest.mark.slow
@pytest.mark.parametrize("base", [JOINT, SEQUENCE])
def test_nan_while_solving_is_a_status_and_leaves_the_others(images, base):
    def breaks(images):
        logits = patch_network(images)
        dark = images.mean((1, 2, 3)) < 0.1
        return jnp.where(dark[:, None], jnp.nan, logits)

    bright = np.clip(
        images + np.array([0.0, 0.6, 0.6], np.float32)[:, None, None, None], 0, 1
    )
    settings = replace(
        base,
        sizes=(4,),
        steps=40,
        fill=lambda image, *, key: (
            jnp.where(image.mean() < 0.4, 0.0, image.mean()) + 0 * image
        ),
    )
    mixed = explain(breaks, bright, targets=0, config=settings)
    assert mixed.info.status[0] == Status.NOT_FINITE
    # the masks are the last finite ones; the map is too, unless it is calibrated on dark images
    assert np.isfinite(mixed.mask_vectors[0]).all()
    assert np.isfinite(mixed.saliency[1:]).all()
    assert np.isfinite(mixed.saliency[0]).all() == (not base.shows_evidence)
    alone = explain(breaks, bright[1:], targets=0, ids=[1, 2], config=settings)
    np.testing.assert_allclose(mixed.saliency[1:], alone.saliency, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "jont"}, "did you mean 'joint'"),
        ({"parametrization": "bx"}, "did you mean 'box'"),
        ({"fill": "blurr"}, "did you mean 'blur'"),
        ({"start": "ons"}, "did you mean 'ones'"),
        ({"steps": 0}, "steps is 0"),
        ({"patience": 0}, "patience 0"),
        ({"steps": 10**20}, "steps is 1000"),
        ({"stack_weights": (0.0, 0.0, 0.0)}, "at least one weight must be above zero"),
        ({"stack_weights": (1.0, 1.0)}, "2 stack_weights for 3 sizes"),
        ({"start": float("nan")}, "start is nan"),
        ({"fill": np.zeros(2, np.float32)}, "the fill has shape"),
        ({"sizes": 40}, "does not fit"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"sizes": (40,)}, "does not fit"),
        ({"sizes": (4, 8), "stack_weights": (1.0,)}, "1 stack_weights for 2 sizes"),
        ({"stack_weights": (1.0, -1.0, 0.0)}, "stack_weights is"),
        ({"objective": ()}, "no terms"),
    ],
)
def test_bad_configs(images, settings, message):
    with pytest.raises(InputError, match=message):
        explain(patch_network, images, config=unchecked(MDMConfig, **settings))


def test_a_class_out_of_range_is_named_for_one_image_too(images, key):
    with pytest.raises(InputError, match="class index 2 is out of range"):
        mdm.explain(patch_network, jnp.asarray(images[0]), 2, key=key)


def test_a_divergence_needs_probabilities(images):
    settings = MDMConfig(objective=(consistency("kl"), area(0.1)))
    with pytest.raises(InputError, match="compares probabilities, and 'logit' is none"):
        explain(patch_network, images, node="logit", config=settings)


@pytest.mark.slow
def test_a_tiny_probability_is_not_a_constant_network(images):
    def sure(images):
        return patch_network(images) + jnp.array([30.0, 0.0])

    info = explain(
        sure, images, targets=1, config=MDMConfig(sizes=(4,), steps=2, fill="black")
    ).info
    assert (info.activation < 1e-6).all()
    assert (info.status == Status.OUT_OF_STEPS).all()


@pytest.mark.slow
def test_terms_of_independent_scales_are_means(images):
    info = explain(
        patch_network,
        images,
        0,
        config=replace(JOINT, sizes=(4, 8), steps=1, schedule="independent"),
    ).info
    np.testing.assert_allclose(info.terms["area"], 0.9, atol=1e-3)


def test_config_from_a_file():
    read = config_files.build(
        MDMConfig,
        {
            "sizes": [4, [8, 6]],
            "objective": {"squared": 1.0, "area": 2.0},
            "optimizer": "sgd",
            "fill": [0.1, 0.2, 0.3],
        },
        base=PRESETS["fast"],
    )
    assert read.sizes == (4, (8, 6))
    assert read.optimizer is optax.sgd
    assert [each.name for each in read.objective] == ["squared", "area"]
    assert read.steps == PRESETS["fast"].steps
    with pytest.raises(InputError, match="did you mean 'steps'"):
        config_files.build(MDMConfig, {"step": 3}, base=PRESETS["fast"])
    assert config_files.schema(MDMConfig).keys() == {f.name for f in fields(MDMConfig)}
    with pytest.raises(InputError, match="did you mean 'paper'"):
        config.preset("papr")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "many"),
        ("steps", 2.5),
        ("steps", True),
        ("sizes", 4),
        ("sizes", ["a"]),
        ("sizes", [[4]]),
        ("objective", 3.0),
        ("objective", {"area": "much"}),
        ("objective", {"area": True}),
        ("sizes", [4.9]),
        ("sizes", [[4, 8, 9]]),
        ("stack_weights", [1.0, "2"]),
        ("optimizer", "adamm"),
        ("optimizer", "apply_updates"),
        ("fill", ["red"]),
        ("until_converged", "yes"),
        ("learning_rate", "fast"),
    ],
)
def test_settings_of_the_wrong_kind(name, value):
    with pytest.raises(InputError, match=f"the setting {name} is .*: write "):
        config_files.build(MDMConfig, {name: value}, base=PRESETS["fast"])


@pytest.mark.slow
def test_solver_of_one_problem_can_be_stepped_by_hand(images, key, quick):
    quick = replace(quick, start="ones", fill="mean", objective=(consistency(), area(3.0)))
    problem = mdm.begin(
        patch_network,
        jnp.asarray(images[0]),
        0,
        node="probability",
        key=key,
        fill=quick.fill,
    )
    made = mdm.make_solver(patch_network, problem, node="probability", config=quick)
    state = made.init(mdm.first_parameters(problem, quick))
    for step_key in step_keys(problem.key, quick.steps):
        state, _ = made.step(state, step_key)
    stepped = mdm.finish(patch_network, problem, state, node="probability", config=quick)
    whole = mdm.explain(patch_network, jnp.asarray(images[0]), 0, key=key, config=quick)
    np.testing.assert_allclose(stepped.saliency, whole.saliency, atol=1e-5)


@pytest.mark.slow
def test_the_rest_is_seen_by_a_term_that_asks_for_it(key):
    """On a network that adds up the left half, removal alone pushes the mask onto that half."""

    def left_half(images):
        return jnp.stack(
            [images[:, :, :4].mean((1, 2, 3)), jnp.zeros(len(images))], axis=-1
        )

    image = jnp.ones((8, 8, 3)).at[:, ::2].set(0.5)
    config = replace(
        JOINT,
        sizes=(8,),
        start="half",
        fill="black",
        objective=(removal(1.0), area(0.1)),
        steps=30,
    )
    found = mdm.explain(left_half, image, 0, node="logit", key=key, config=config)
    assert found.saliency[:, :3].min() > 0.8
    assert found.saliency[:, 5:].max() < 0.2
    assert found.info.terms["removal"] < 0.1
    assert found.info.evaluations == 2 * 30


@pytest.mark.slow
def test_several_fills_take_turns(images):
    settings = config_files.build(
        MDMConfig,
        {
            "fill": ["black", "gray"],
            "steps": 3,
            "sizes": [4],
            "start": "half",
            "objective": {"absolute": 1, "area": 30},
        },
        base=PRESETS["fast"],
    )
    assert settings.fill == ("black", "gray")
    steps = explain(patch_network, images, targets=0, config=settings, trace=True).trace
    for step, fill in enumerate(
        ("black", "gray", "black")
    ):  # the objective of each step is that of the step's own fill
        began = tuple(vectors[0, step] for vectors in steps.mask_vectors)
        alone = replace(settings, fill=fill, start=began[0], steps=1)
        found = explain(patch_network, images[:1], targets=0, config=alone, trace=True)
        np.testing.assert_allclose(
            found.trace.objective[0, 0], steps.objective[0, step], atol=1e-4
        )
