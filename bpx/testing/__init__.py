"""Checks that a part of one's own does what the parts of bpx do: call them in a test.

Each raises AssertionError, in one line, where the part is not what bpx expects; the tests of bpx call the same
functions on every registered part::

    def test_my_activation():
        bpx.testing.check_activation(MyActivation())
"""

from bpx.testing.activations import check_activation
from bpx.testing.datasets import check_dataset
from bpx.testing.initializers import check_initializer
from bpx.testing.losses import check_loss
from bpx.testing.normalizations import check_normalization
from bpx.testing.optimizers import check_optimizer
from bpx.testing.probes import check_probe
from bpx.testing.schedules import check_schedule

__all__ = [
    "check_activation",
    "check_dataset",
    "check_initializer",
    "check_loss",
    "check_normalization",
    "check_optimizer",
    "check_probe",
    "check_schedule",
]
