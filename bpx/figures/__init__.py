"""Figures, drawn with matplotlib from logged records only."""

from bpx.figures.evaluation import confusion, decision, samples
from bpx.figures.layers import delta_heatmap, delta_profile, gradient_norms
from bpx.figures.run import curves, draw_all

__all__ = [
    "confusion",
    "curves",
    "decision",
    "delta_heatmap",
    "delta_profile",
    "draw_all",
    "gradient_norms",
    "samples",
]
