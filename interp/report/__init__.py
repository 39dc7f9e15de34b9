"""The study report: a page, dashboards and figures, made from the stage folders alone. Imports no torch."""

from interp.report.page import render

__all__ = ["render"]
