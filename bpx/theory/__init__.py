"""Mean-field theory of signal propagation: what a wide random network should show before it has learned."""

from bpx.engine.activations import ACTIVATIONS
from bpx.theory.criticality import PhaseDiagram, critical_sigma_w, phase_diagram, phase_diagram_around
from bpx.theory.gaussian import expectation, pair_expectation
from bpx.theory.meanfield import Ensemble, MeanField, mean_field
from bpx.theory.prediction import (
    Architecture,
    Prediction,
    backward_slope,
    predict,
    verdict,
    weight_stds,
)

__all__ = [
    "ACTIVATIONS",
    "Architecture",
    "Ensemble",
    "MeanField",
    "PhaseDiagram",
    "Prediction",
    "backward_slope",
    "critical_sigma_w",
    "expectation",
    "mean_field",
    "pair_expectation",
    "phase_diagram",
    "phase_diagram_around",
    "predict",
    "verdict",
    "weight_stds",
]
