"""The solver on problems with known minima: a quadratic with minimum at 3, one that turns NaN, one
that never stops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdm_jax import solver
from mdm_jax.execution.keys import step_keys
from mdm_jax.types import Status

OPTIMIZERS = {
    "adam": optax.adam(0.3),
    "sgd": optax.sgd(0.2),
    "momentum": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "lion": optax.lion(0.1),
    "chain": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.3, 100))
    ),
    "lbfgs": optax.lbfgs(),
}


def quadratic(parameters, key, step):
    del key
    value = jnp.sum((parameters - 3.0) ** 2)
    return value, {"distance": value}


def start(objective=quadratic, optimizer=OPTIMIZERS["adam"], **options):
    return solver.make(objective, optimizer, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optax_optimizer_finds_the_minimum(name, key):
    state, _ = solver.run_fixed(
        start(optimizer=OPTIMIZERS[name]), jnp.zeros(2), steps=100, key=key
    )
    np.testing.assert_allclose(state.parameters, 3.0, atol=0.2)
    assert state.steps == 100


@pytest.mark.slow
def test_line_search_evaluations_are_counted(key):
    plain, _ = solver.run_fixed(start(), jnp.zeros(2), steps=3, key=key)
    search, _ = solver.run_fixed(
        start(optimizer=OPTIMIZERS["lbfgs"]), jnp.zeros(2), steps=3, key=key
    )
    assert plain.evaluations == 3
    assert search.evaluations > 3


def test_until_converged_stops_early_and_near(key):
    state, _ = solver.run_until(start(), jnp.zeros(2), steps=500, key=key)
    assert state.status == Status.CONVERGED
    assert state.steps < 500
    np.testing.assert_allclose(state.parameters, 3.0, atol=0.3)


def test_out_of_steps(key):
    state, _ = solver.run_until(
        start(optimizer=optax.sgd(1e-3), tolerance=0.0), jnp.zeros(2), steps=7, key=key
    )
    assert (state.status, state.steps) == (Status.OUT_OF_STEPS, 7)


def test_projection_keeps_parameters_feasible(key):
    state, _ = solver.run_fixed(
        start(project=lambda p: jnp.clip(p, 0.0, 1.0)), jnp.zeros(2), steps=30, key=key
    )
    np.testing.assert_allclose(state.parameters, 1.0)


def breaks_above(limit):
    def objective(parameters, key, step):
        value, terms = quadratic(parameters, key, step)
        return jnp.where(parameters.max() > limit, jnp.nan, value), terms

    return objective


@pytest.mark.slow
@pytest.mark.parametrize("run", [solver.run_fixed, solver.run_until])
def test_one_failure_leaves_the_others_untouched(run, key):
    def solve(limit, run=run):
        return run(start(breaks_above(limit)), jnp.zeros(2), steps=40, key=key)[0]

    together = jax.vmap(solve)(jnp.array([100.0, 1.0, 100.0]))
    assert together.status[1] == Status.NOT_FINITE
    assert np.isfinite(together.parameters).all()
    alone = solve(100.0)
    np.testing.assert_allclose(together.parameters[0], alone.parameters, rtol=1e-5)
    np.testing.assert_allclose(together.parameters[2], alone.parameters, rtol=1e-5)
    assert together.status[0] == alone.status


def test_not_finite_at_once_keeps_the_start(key):
    state, _ = solver.run_until(start(breaks_above(-1.0)), jnp.zeros(2), steps=40, key=key)
    assert state.status == Status.NOT_FINITE
    np.testing.assert_array_equal(state.parameters, 0.0)


@pytest.mark.parametrize("run", [solver.run_fixed, solver.run_until])
def test_recording_changes_nothing_and_begins_at_the_start(run, key):
    plain, nothing = run(start(), jnp.zeros(2), steps=60, key=key)
    state, record = run(start(), jnp.zeros(2), steps=60, key=key, record=True)
    assert nothing is None
    np.testing.assert_allclose(state.parameters, plain.parameters, rtol=1e-6)
    assert (state.steps, state.status) == (plain.steps, plain.status)
    assert record.objective.shape == (60,)
    np.testing.assert_array_equal(record.parameters[0], 0.0)
    assert record.objective[0] == pytest.approx(18.0)
    reached = record.objective.min() if run is solver.run_until else record.objective[-1]
    assert state.last.objective == reached == state.last.terms["distance"]


def test_two_steps_by_hand_equal_a_run_of_two(key):
    problem = start()
    keys = step_keys(key, 2)
    state = problem.init(jnp.zeros(2))
    for each in keys:
        state, _ = problem.step(state, each)
    run, _ = solver.run_fixed(problem, jnp.zeros(2), steps=2, key=key)
    np.testing.assert_allclose(state.parameters, run.parameters, rtol=1e-6)
