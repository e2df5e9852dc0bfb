"""Probes: what is measured in every layer of a step, read-only."""

from bpx.probes.layers import LayerProbe
from bpx.probes.schedule import Due

__all__ = ["Due", "LayerProbe"]
