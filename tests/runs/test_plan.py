"""What a run writes down before the first image."""

from importlib import metadata

import mdm_jax
from mdm_jax.runs import plan


def test_a_clone_that_is_not_installed_has_a_version(monkeypatch):
    installed = metadata.version

    def version(name):
        if name == "mdm_jax":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    assert plan.versions()["mdm_jax"] == mdm_jax.__version__
