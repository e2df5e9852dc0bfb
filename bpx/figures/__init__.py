"""Figures, drawn with matplotlib from logged records only."""

from bpx.figures.run import confusion, curves, decision, delta_profile, draw_all, gradient_norms, samples

__all__ = ["confusion", "curves", "decision", "delta_profile", "draw_all", "gradient_norms", "samples"]
