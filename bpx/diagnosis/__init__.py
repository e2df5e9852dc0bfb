"""Findings: what the gradients of a network do, whether theory says so, which part causes it, and what to try."""

from bpx.diagnosis.architecture import first_variance, predict_network
from bpx.diagnosis.finding import Finding
from bpx.diagnosis.judge import diagnose_pass
from bpx.diagnosis.observation import Observation, observe

__all__ = ["Finding", "Observation", "diagnose_pass", "first_variance", "observe", "predict_network"]
