"""The other saliency methods, one a file, under the contract of `types.Method`.

They are what MDM is compared with. Each file has a function `explain` and the settings that it
takes, a frozen dataclass named after the method."""

from __future__ import annotations

from importlib import import_module

from mdm_jax.baselines.ablation_cam import AblationCAM as AblationCAM
from mdm_jax.baselines.attn_lrp import AttnLRP as AttnLRP
from mdm_jax.baselines.blur_ig import BlurIG as BlurIG
from mdm_jax.baselines.center import Center as Center
from mdm_jax.baselines.chefer import Chefer as Chefer
from mdm_jax.baselines.eigen_cam import EigenCAM as EigenCAM
from mdm_jax.baselines.extremal_perturbation import (
    ExtremalPerturbation as ExtremalPerturbation,
)
from mdm_jax.baselines.fullgrad import FullGrad as FullGrad
from mdm_jax.baselines.grad_cam import GradCAM as GradCAM
from mdm_jax.baselines.grad_cam_pp import GradCAMPlusPlus as GradCAMPlusPlus
from mdm_jax.baselines.gradient import Gradient as Gradient
from mdm_jax.baselines.guided_ig import GuidedIG as GuidedIG
from mdm_jax.baselines.hires_cam import HiResCAM as HiResCAM
from mdm_jax.baselines.hsic import HSIC as HSIC
from mdm_jax.baselines.igos import IGOS as IGOS
from mdm_jax.baselines.igos_pp import IGOSPlusPlus as IGOSPlusPlus
from mdm_jax.baselines.input_x_gradient import InputXGradient as InputXGradient
from mdm_jax.baselines.integrated_gradients import (
    IntegratedGradients as IntegratedGradients,
)
from mdm_jax.baselines.kernel_shap import KernelSHAP as KernelSHAP
from mdm_jax.baselines.layer_cam import LayerCAM as LayerCAM
from mdm_jax.baselines.lime import LIME as LIME
from mdm_jax.baselines.meaningful_perturbation import (
    MeaningfulPerturbation as MeaningfulPerturbation,
)
from mdm_jax.baselines.occlusion import Occlusion as Occlusion
from mdm_jax.baselines.random import Random as Random
from mdm_jax.baselines.rise import RISE as RISE
from mdm_jax.baselines.rollout import Rollout as Rollout
from mdm_jax.baselines.samp import SAMP as SAMP
from mdm_jax.baselines.score_cam import ScoreCAM as ScoreCAM
from mdm_jax.baselines.smoothgrad import SmoothGrad as SmoothGrad
from mdm_jax.baselines.sobel import Sobel as Sobel
from mdm_jax.baselines.sobol_indices import SobolIndices as SobolIndices
from mdm_jax.baselines.submodular_selection import (
    SubmodularSelection as SubmodularSelection,
)
from mdm_jax.baselines.xgrad_cam import XGradCAM as XGradCAM
from mdm_jax.execution.jax_settings import own_settings
from mdm_jax.types import Method

# Names of the methods, which are those of their files: a new one is a file and a name here.
NAMES = (
    "gradient",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "occlusion",
    "rise",
    "random",
    "center",
    "sobel",
    "grad_cam",
    "grad_cam_pp",
    "layer_cam",
    "score_cam",
    "hires_cam",
    "xgrad_cam",
    "eigen_cam",
    "ablation_cam",
    "fullgrad",
    "rollout",
    "chefer",
    "attn_lrp",
    "meaningful_perturbation",
    "extremal_perturbation",
    "hsic",
    "sobol_indices",
    "lime",
    "kernel_shap",
    "submodular_selection",
    "igos",
    "igos_pp",
    "samp",
    "guided_ig",
    "blur_ig",
)


def _load(name: str) -> Method:
    """The method of a file, which computes under our own settings of JAX."""
    method: Method = import_module(f"mdm_jax.baselines.{name}").METHOD
    return method._replace(explain=own_settings()(method.explain))


BASELINES: tuple[Method, ...] = tuple(map(_load, NAMES))
