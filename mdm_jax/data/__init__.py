"""Sources of labeled images with random access: `source[i]` is an `Example`.

Batches of them: `mdm_jax.data.loader`."""

from mdm_jax.data.augment import Augment as Augment
from mdm_jax.data.digits import Digits as Digits
from mdm_jax.data.open_source import open_source as open_source
from mdm_jax.data.source import Example as Example
from mdm_jax.data.source import Source as Source
