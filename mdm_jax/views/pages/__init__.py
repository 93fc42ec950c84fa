"""Pages for a browser: `write_report` for runs, `prototype_page.write_page` for prototypes."""

from mdm_jax.views.pages.frames import ImageOrigin
from mdm_jax.views.pages.run_report import ReportSummary, write_report

__all__ = ["ImageOrigin", "ReportSummary", "write_report"]
