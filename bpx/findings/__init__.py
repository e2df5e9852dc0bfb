"""Findings: what the gradients of a network do, whether theory says so, which part causes it, and what to try."""

from bpx.findings.architecture import first_variance, predict_network
from bpx.findings.finding import Finding
from bpx.findings.judge import find
from bpx.findings.observation import Observation, observe

__all__ = ["Finding", "Observation", "find", "first_variance", "observe", "predict_network"]
