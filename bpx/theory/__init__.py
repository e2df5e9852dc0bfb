"""Mean-field theory of signal propagation: what a wide random network should show before it has learned."""

from bpx.theory.architecture import Architecture, weight_stds
from bpx.theory.criticality import PhaseDiagram, critical_sigma_w, phase_diagram, phase_diagram_around
from bpx.theory.finite_width import Ends
from bpx.theory.gaussian import expectation, pair_expectation
from bpx.theory.meanfield import Ensemble, MeanField, mean_field
from bpx.theory.prediction import Prediction, Verdict, backward_slope, predict, slope_verdict

__all__ = [
    "Architecture",
    "Ends",
    "Ensemble",
    "MeanField",
    "PhaseDiagram",
    "Prediction",
    "Verdict",
    "backward_slope",
    "critical_sigma_w",
    "expectation",
    "mean_field",
    "pair_expectation",
    "phase_diagram",
    "phase_diagram_around",
    "predict",
    "slope_verdict",
    "weight_stds",
]
