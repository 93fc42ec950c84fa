"""The other saliency methods, one a file, under the contract of `types.Method`.

They are what MDM is compared with. Each file has a function `explain` and the settings that it
takes, a frozen dataclass named after the method."""

from __future__ import annotations

from mdm_jax.baselines import (
    center,
    chefer,
    extremal_perturbation,
    grad_cam,
    grad_cam_pp,
    gradient,
    input_x_gradient,
    integrated_gradients,
    layer_cam,
    meaningful_perturbation,
    occlusion,
    random,
    rise,
    rollout,
    score_cam,
    smoothgrad,
    sobel,
)
from mdm_jax.baselines.center import Center
from mdm_jax.baselines.chefer import Chefer
from mdm_jax.baselines.extremal_perturbation import ExtremalPerturbation
from mdm_jax.baselines.grad_cam import GradCAM
from mdm_jax.baselines.grad_cam_pp import GradCAMPlusPlus
from mdm_jax.baselines.gradient import Gradient
from mdm_jax.baselines.input_x_gradient import InputXGradient
from mdm_jax.baselines.integrated_gradients import IntegratedGradients
from mdm_jax.baselines.layer_cam import LayerCAM
from mdm_jax.baselines.meaningful_perturbation import MeaningfulPerturbation
from mdm_jax.baselines.occlusion import Occlusion
from mdm_jax.baselines.random import Random
from mdm_jax.baselines.rise import RISE
from mdm_jax.baselines.rollout import Rollout
from mdm_jax.baselines.score_cam import ScoreCAM
from mdm_jax.baselines.smoothgrad import SmoothGrad
from mdm_jax.baselines.sobel import Sobel
from mdm_jax.types import Method

BASELINES: tuple[Method, ...] = (
    Method("gradient", gradient.explain, Gradient, "logit"),
    Method("input_x_gradient", input_x_gradient.explain, InputXGradient, "logit"),
    Method("smoothgrad", smoothgrad.explain, SmoothGrad, "logit"),
    Method("integrated_gradients", integrated_gradients.explain, IntegratedGradients, "logit"),
    Method("occlusion", occlusion.explain, Occlusion, "probability"),
    Method("rise", rise.explain, RISE, "probability"),
    Method("random", random.explain, Random, "probability"),
    Method("center", center.explain, Center, "probability"),
    Method("sobel", sobel.explain, Sobel, "probability"),
    Method("grad_cam", grad_cam.explain, GradCAM, "logit"),
    Method("grad_cam_pp", grad_cam_pp.explain, GradCAMPlusPlus, "logit"),
    Method("layer_cam", layer_cam.explain, LayerCAM, "logit"),
    Method("score_cam", score_cam.explain, ScoreCAM, "probability"),
    Method("rollout", rollout.explain, Rollout, "logit"),
    Method("chefer", chefer.explain, Chefer, "logit"),
    Method(
        "meaningful_perturbation",
        meaningful_perturbation.explain,
        MeaningfulPerturbation,
        "probability",
    ),
    Method("extremal_perturbation", extremal_perturbation.explain, ExtremalPerturbation, "logit"),
)
"""every method here; a new one is a file and a line"""
