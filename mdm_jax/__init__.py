"""Saliency maps for image classifiers by Multiple Dynamic Masks, as pure functions in JAX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdm_jax import prototypes as prototypes
from mdm_jax import sweeps as sweeps
from mdm_jax.config import PRESETS as PRESETS
from mdm_jax.config import MDMConfig as MDMConfig
from mdm_jax.errors import InputError as InputError
from mdm_jax.evaluation import Scores as Scores
from mdm_jax.evaluation import evaluate as evaluate
from mdm_jax.explain_batch import explain as explain
from mdm_jax.models.classifier import Classifier as Classifier
from mdm_jax.models.pretrained import load_model as load_model
from mdm_jax.objectives import area as area
from mdm_jax.objectives import consistency as consistency
from mdm_jax.objectives import removal as removal
from mdm_jax.objectives import term as term
from mdm_jax.objectives import total_variation as total_variation
from mdm_jax.runs.config import RunConfig as RunConfig
from mdm_jax.types import Explanation as Explanation
from mdm_jax.types import Status as Status

if TYPE_CHECKING:
    from mdm_jax.runs.loop import run as run
    from mdm_jax.runs.reader import open_run as open_run
    from mdm_jax.sweeps.loop import sweep as sweep

LATE = {
    "run": "mdm_jax.runs.loop",
    "open_run": "mdm_jax.runs.reader",
    "sweep": "mdm_jax.sweeps.loop",
}
"""imported when they are asked for: grain, TensorStore and Arrow take a second that others need not
wait for"""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
