"""Sources of labelled images, random access: `source[i]` is an `Example`."""

from mdm_jax.data.digits import Digits as Digits
from mdm_jax.data.digits import Example as Example
