"""Maps scored by metrics, and methods compared: `evaluate` on arrays, the benchmark on data
sets."""

from mdm_jax.evaluation.evaluate import evaluate as evaluate
from mdm_jax.evaluation.statistics import Scores as Scores
