"""Random keys: of images and of steps."""

import os
from pathlib import Path

import jax
import numpy as np

from mdm_jax.execution.keys import id_numbers, step_keys


def test_id_numbers_are_stable():
    np.testing.assert_array_equal(
        id_numbers([0, 5, 2**40 + 3, "cat.jpg"]), [0, 5, 3, 294389760]
    )
    assert id_numbers([Path("cat.jpg")])[0] == 294389760
    assert id_numbers([os.fsdecode(b"caf\xe9.jpg")]).dtype == np.uint32


def test_step_keys_do_not_depend_on_the_number_of_steps(key):
    few, many = step_keys(key, 3), step_keys(key, 9)
    np.testing.assert_array_equal(jax.random.key_data(few), jax.random.key_data(many)[:3])
