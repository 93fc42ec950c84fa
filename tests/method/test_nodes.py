import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mdm_jax import InputError, nodes

LOGITS = jnp.array([1.0, -0.5, 2.0, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", nodes.NODES)
def test_every_node_is_finite_and_differentiable(name):
    def node(z, target):
        named = isinstance(nodes.NODES[name], nodes.Entry)
        return nodes.NODES[name]((z, {nodes.NODES[name].name: z}) if named else z, target)

    assert jnp.isfinite(node(LOGITS, jnp.int32(1))).all()
    assert jnp.isfinite(node(100 * LOGITS, jnp.int32(1))).all()
    check_grads(
        lambda z: node(jnp.asarray(z), jnp.int32(1)),
        (LOGITS,),
        order=1,
        modes=["rev"],
        atol=1e-2,
        rtol=1e-2,
    )


def test_values():
    target = jnp.int32(2)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert nodes.logit(LOGITS, target) == 2.0
    assert nodes.probability(LOGITS, target) == pytest.approx(p[2], rel=1e-5)
    assert nodes.log_odds(LOGITS, target) == pytest.approx(
        np.log(p[2] / (1 - p[2])), rel=1e-5
    )
    assert nodes.sigmoid(LOGITS, target) == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)
    np.testing.assert_array_equal(nodes.logits(LOGITS, target), LOGITS)


def test_log_odds_does_not_saturate():
    gradient = jax.grad(nodes.log_odds)(jnp.array([200.0, 0.0]), jnp.int32(0))
    np.testing.assert_allclose(gradient, [1.0, -1.0], atol=1e-6)


def test_logits_are_the_outputs_or_lead_them():
    assert nodes.logits_of((LOGITS, {"features": 1})) is LOGITS
    assert nodes.logits_of(LOGITS) is LOGITS
    with pytest.raises(InputError, match="no logits"):
        nodes.logits_of({"logits": LOGITS})


def test_bad_nodes():
    with pytest.raises(InputError, match="did you mean 'probability'"):
        nodes.resolve("probabilty")
    with pytest.raises(InputError, match="give a name or a function"):
        nodes.resolve(3)
