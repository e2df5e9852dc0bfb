"""Training: the loop, and what is measured of a trained network."""

from bpx.training.evaluation import save_evaluation
from bpx.training.fit import Record, fit

__all__ = ["Record", "fit", "save_evaluation"]
