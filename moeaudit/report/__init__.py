"""The report: figures and one self-contained HTML page."""

from .page import plotly_figures as plotly_figures
from .page import render as render
from .page import write_report as write_report

__all__ = ["plotly_figures", "render", "write_report"]
