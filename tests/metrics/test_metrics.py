import jax.numpy as jnp
import pytest

from mdm_jax.metrics import energy_pointing


def test_energy_pointing_of_known_maps():
    mask = jnp.zeros((4, 4), bool).at[:2].set(True)
    assert energy_pointing(mask.astype(jnp.float32), mask) == 1.0
    assert energy_pointing(jnp.ones((4, 4)), mask) == 0.5
    assert energy_pointing((~mask).astype(jnp.float32), mask) == 0.0
    assert energy_pointing(jnp.zeros((4, 4)), mask) == 0.0
    assert energy_pointing(jnp.where(mask, 3.0, 1.0), mask) == pytest.approx(0.75)
