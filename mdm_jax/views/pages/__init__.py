"""The static page of one or more runs: `write_report`."""

from mdm_jax.views.pages.frames import Album
from mdm_jax.views.pages.run_report import Written, write_report

__all__ = ["Album", "Written", "write_report"]
