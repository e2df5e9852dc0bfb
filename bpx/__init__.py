"""Diagnose vanishing and exploding gradients: whether a network has them, where, why, and what would change it.

``bpx.diagnose(net, x, y)`` returns the ``Finding`` for a network of ``bpx.engine``, which holds layers, models,
losses, optimizers and the gradient check. ``bpx.theory`` predicts the gradients by mean-field theory, ``bpx.probes``
measures them, and ``bpx.records`` reads the record of a run. Attributes are imported on first access, so that
``import bpx`` does not load matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bpx import data, engine, probes, records, testing, theory
    from bpx.diagnosis.diagnose import diagnose
    from bpx.diagnosis.finding import Finding

__version__ = "0.1.0"

__all__ = ["Finding", "__version__", "data", "diagnose", "engine", "probes", "records", "testing", "theory"]


def __getattr__(name: str) -> object:
    if name == "diagnose":
        from bpx.diagnosis.diagnose import diagnose

        return diagnose
    if name == "Finding":
        from bpx.diagnosis.finding import Finding

        return Finding
    if name in __all__:
        return import_module(f"bpx.{name}")
    raise AttributeError(f"module 'bpx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
