"""Saliency maps for image classifiers by Multiple Dynamic Masks, as pure functions in JAX.

Nothing is imported before it is used: `import mdm_jax` takes no time, and `mdm_jax.explain` only
what it needs."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdm_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from mdm_jax.baselines import HSIC as HSIC
    from mdm_jax.baselines import IGOS as IGOS
    from mdm_jax.baselines import LIME as LIME
    from mdm_jax.baselines import RISE as RISE
    from mdm_jax.baselines import SAMP as SAMP
    from mdm_jax.baselines import AblationCAM as AblationCAM
    from mdm_jax.baselines import AttnLRP as AttnLRP
    from mdm_jax.baselines import BlurIG as BlurIG
    from mdm_jax.baselines import Center as Center
    from mdm_jax.baselines import Chefer as Chefer
    from mdm_jax.baselines import EigenCAM as EigenCAM
    from mdm_jax.baselines import ExtremalPerturbation as ExtremalPerturbation
    from mdm_jax.baselines import FullGrad as FullGrad
    from mdm_jax.baselines import GradCAM as GradCAM
    from mdm_jax.baselines import GradCAMPlusPlus as GradCAMPlusPlus
    from mdm_jax.baselines import Gradient as Gradient
    from mdm_jax.baselines import GuidedIG as GuidedIG
    from mdm_jax.baselines import HiResCAM as HiResCAM
    from mdm_jax.baselines import IGOSPlusPlus as IGOSPlusPlus
    from mdm_jax.baselines import InputXGradient as InputXGradient
    from mdm_jax.baselines import IntegratedGradients as IntegratedGradients
    from mdm_jax.baselines import KernelSHAP as KernelSHAP
    from mdm_jax.baselines import LayerCAM as LayerCAM
    from mdm_jax.baselines import MeaningfulPerturbation as MeaningfulPerturbation
    from mdm_jax.baselines import Occlusion as Occlusion
    from mdm_jax.baselines import Random as Random
    from mdm_jax.baselines import Rollout as Rollout
    from mdm_jax.baselines import ScoreCAM as ScoreCAM
    from mdm_jax.baselines import SmoothGrad as SmoothGrad
    from mdm_jax.baselines import Sobel as Sobel
    from mdm_jax.baselines import SobolIndices as SobolIndices
    from mdm_jax.baselines import SubmodularSelection as SubmodularSelection
    from mdm_jax.baselines import XGradCAM as XGradCAM
    from mdm_jax.config import PRESETS as PRESETS
    from mdm_jax.config import MDMConfig as MDMConfig
    from mdm_jax.data.open_source import open_source as open_source
    from mdm_jax.data.spec import DataSpec as DataSpec
    from mdm_jax.errors import InputError as InputError
    from mdm_jax.errors import NothingToExplain as NothingToExplain
    from mdm_jax.evaluation.benchmark_config import BenchmarkConfig as BenchmarkConfig
    from mdm_jax.evaluation.evaluate import evaluate as evaluate
    from mdm_jax.evaluation.statistics import Scores as Scores
    from mdm_jax.explain_batch import explain as explain
    from mdm_jax.hdm import HDMConfig as HDMConfig
    from mdm_jax.methods import MethodSpec as MethodSpec
    from mdm_jax.models.classifier import Classifier as Classifier
    from mdm_jax.models.pretrained import load_model as load_model
    from mdm_jax.models.spec import ModelSpec as ModelSpec
    from mdm_jax.objectives import area as area
    from mdm_jax.objectives import consistency as consistency
    from mdm_jax.objectives import high_activation as high_activation
    from mdm_jax.objectives import removal as removal
    from mdm_jax.objectives import term as term
    from mdm_jax.objectives import total_variation as total_variation
    from mdm_jax.runs.config import RunConfig as RunConfig
    from mdm_jax.runs.config import RunJob as RunJob
    from mdm_jax.runs.loop import run as run
    from mdm_jax.runs.reader import open_run as open_run
    from mdm_jax.sweeps.config import SweepConfig as SweepConfig
    from mdm_jax.sweeps.loop import sweep as sweep
    from mdm_jax.sweeps.result import Sweep as Sweep
    from mdm_jax.training.config import TrainConfig as TrainConfig
    from mdm_jax.types import Explanation as Explanation
    from mdm_jax.types import Method as Method
    from mdm_jax.types import Status as Status

# The public names, by the module that each comes from.
_HOMES = {
    "baselines": (
        "AblationCAM",
        "AttnLRP",
        "BlurIG",
        "Center",
        "Chefer",
        "EigenCAM",
        "ExtremalPerturbation",
        "FullGrad",
        "GradCAM",
        "GradCAMPlusPlus",
        "Gradient",
        "HiResCAM",
        "HSIC",
        "GuidedIG",
        "IGOS",
        "IGOSPlusPlus",
        "InputXGradient",
        "IntegratedGradients",
        "KernelSHAP",
        "LIME",
        "LayerCAM",
        "MeaningfulPerturbation",
        "Occlusion",
        "RISE",
        "Random",
        "Rollout",
        "SAMP",
        "ScoreCAM",
        "SmoothGrad",
        "Sobel",
        "XGradCAM",
        "SobolIndices",
        "SubmodularSelection",
    ),
    "config": ("PRESETS", "MDMConfig"),
    "data.open_source": ("open_source",),
    "data.spec": ("DataSpec",),
    "errors": ("InputError", "NothingToExplain"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.statistics": ("Scores",),
    "evaluation.benchmark_config": ("BenchmarkConfig",),
    "explain_batch": ("explain",),
    "hdm": ("HDMConfig",),
    "methods": ("MethodSpec",),
    "models.classifier": ("Classifier",),
    "models.pretrained": ("load_model",),
    "models.spec": ("ModelSpec",),
    "objectives": (
        "area",
        "consistency",
        "high_activation",
        "removal",
        "term",
        "total_variation",
    ),
    "runs.config": ("RunConfig", "RunJob"),
    "runs.loop": ("run",),
    "runs.reader": ("open_run",),
    "sweeps.config": ("SweepConfig",),
    "sweeps.loop": ("sweep",),
    "sweeps.result": ("Sweep",),
    "training.config": ("TrainConfig",),
    "types": ("Explanation", "Method", "Status"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "HSIC",
    "IGOS",
    "LIME",
    "PRESETS",
    "RISE",
    "SAMP",
    "AblationCAM",
    "AttnLRP",
    "BenchmarkConfig",
    "BlurIG",
    "Center",
    "Chefer",
    "Classifier",
    "DataSpec",
    "EigenCAM",
    "Explanation",
    "ExtremalPerturbation",
    "FullGrad",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GuidedIG",
    "HDMConfig",
    "HiResCAM",
    "IGOSPlusPlus",
    "InputError",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "MDMConfig",
    "MeaningfulPerturbation",
    "Method",
    "MethodSpec",
    "ModelSpec",
    "NothingToExplain",
    "Occlusion",
    "Random",
    "Rollout",
    "RunConfig",
    "RunJob",
    "ScoreCAM",
    "Scores",
    "SmoothGrad",
    "Sobel",
    "SobolIndices",
    "Status",
    "SubmodularSelection",
    "Sweep",
    "SweepConfig",
    "TrainConfig",
    "XGradCAM",
    "area",
    "consistency",
    "evaluate",
    "explain",
    "high_activation",
    "load_model",
    "open_run",
    "open_source",
    "removal",
    "run",
    "sweep",
    "term",
    "total_variation",
]


# Modules that were of the package itself and have moved into a room, for one more version.
_MOVED = {
    "batch": "explain_batch",
    "intermediates": "execution.intermediates",
    "network": "execution.network",
    "outside": "plugins",
    "plots": "views.explanation_figures",
    "report": "views.pages",
}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    elif name in _MOVED:
        new = f"{__name__}.{_MOVED[name]}"
        warnings.warn(f"{__name__}.{name} is now {new}", DeprecationWarning, stacklevel=2)
        return import_module(new)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        value = _import_submodule(name)
    # Kept, so that the next use does not come here again.
    globals()[name] = value
    return value


def _import_submodule(name: str) -> Any:
    """A module of the package, such as `mdm_jax.methods`, which need not be imported by itself."""
    full = f"{__name__}.{name}"
    try:
        return import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
