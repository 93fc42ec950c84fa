"""The other saliency methods, one a file, under the contract of `methods.Method`: what MDM is compared with."""

from __future__ import annotations

from typing import Any

from mdm_jax.baselines import gradient

BASELINES: dict[str, tuple[Any, type]] = {
    "gradient": (gradient.explain, gradient.GradientConfig),
}
"""name -> (explain, config)"""
