"""Figures, drawn with matplotlib from logged records only."""

from bpx.figures.agreement import gradient_agreement
from bpx.figures.evaluation import confusion, decision, regression, samples
from bpx.figures.flow import draw_flow, flow_figures
from bpx.figures.gains import backward_gains
from bpx.figures.histograms import magnitude_histograms
from bpx.figures.jacobian import jacobian_spectrum
from bpx.figures.norms import gradient_norms
from bpx.figures.phase import phase_of_run
from bpx.figures.profile import delta_heatmap, layer_profile
from bpx.figures.run import curves, draw_all
from bpx.figures.units import idle_units
from bpx.figures.updates import update_ratios
from bpx.figures.weights import weight_matrices

__all__ = [
    "backward_gains",
    "confusion",
    "curves",
    "decision",
    "delta_heatmap",
    "draw_all",
    "draw_flow",
    "flow_figures",
    "gradient_agreement",
    "gradient_norms",
    "idle_units",
    "jacobian_spectrum",
    "layer_profile",
    "magnitude_histograms",
    "phase_of_run",
    "regression",
    "samples",
    "update_ratios",
    "weight_matrices",
]
