"""Training: the loop, its state between two steps, and what is measured of a trained network."""

from bpx.training.cadence import Cadence
from bpx.training.checkpoint import Checkpoints, numerics_fingerprint
from bpx.training.evaluation import evaluated, save_evaluation
from bpx.training.fit import Record, fit
from bpx.training.recorder import FlightRecorder
from bpx.training.state import Progress, State, SupportsStateDict, Training

__all__ = [
    "Cadence",
    "Checkpoints",
    "FlightRecorder",
    "Progress",
    "Record",
    "State",
    "SupportsStateDict",
    "Training",
    "evaluated",
    "fit",
    "numerics_fingerprint",
    "save_evaluation",
]
