"""The static page of one or more runs: `write_report`."""

from mdm_jax.report.frames import Album
from mdm_jax.report.page import Written, write_report

__all__ = ["Album", "Written", "write_report"]
