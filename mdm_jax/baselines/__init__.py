"""The other saliency methods, one a file, under the contract of `methods.Method`: what MDM is
compared with."""

from __future__ import annotations

from typing import Any

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
from mdm_jax.baselines.attribution import NoSettings
from mdm_jax.baselines.cam import CAMConfig

BASELINES: dict[str, tuple[Any, type]] = {
    "gradient": (gradient.explain, gradient.GradientConfig),
    "input_x_gradient": (input_x_gradient.explain, input_x_gradient.InputXGradientConfig),
    "smoothgrad": (smoothgrad.explain, smoothgrad.SmoothGradConfig),
    "integrated_gradients": (
        integrated_gradients.explain,
        integrated_gradients.IntegratedGradientsConfig,
    ),
    "occlusion": (occlusion.explain, occlusion.OcclusionConfig),
    "rise": (rise.explain, rise.RISEConfig),
    "random": (random.explain, NoSettings),
    "center": (center.explain, center.CenterConfig),
    "sobel": (sobel.explain, NoSettings),
    "grad_cam": (grad_cam.explain, CAMConfig),
    "grad_cam_pp": (grad_cam_pp.explain, CAMConfig),
    "layer_cam": (layer_cam.explain, CAMConfig),
    "score_cam": (score_cam.explain, score_cam.ScoreCAMConfig),
    "rollout": (rollout.explain, rollout.RolloutConfig),
    "chefer": (chefer.explain, chefer.CheferConfig),
    "meaningful_perturbation": (
        meaningful_perturbation.explain,
        meaningful_perturbation.MeaningfulPerturbationConfig,
    ),
    "extremal_perturbation": (
        extremal_perturbation.explain,
        extremal_perturbation.ExtremalPerturbationConfig,
    ),
}
"""name -> (explain, config)"""
