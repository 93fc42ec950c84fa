"""Metrics of saliency maps: pure functions on one map and its truth, `vmap` outside."""

from mdm_jax.metrics.localisation import energy_pointing as energy_pointing
