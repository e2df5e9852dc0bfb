"""System metrics: the load of the machine while a run lasts, read by MLflow's own monitors."""

from __future__ import annotations

import time
from typing import Any, final

EVERY = 10.0  # seconds, MLflow's own interval: a shorter run has none


@final
class SystemMetrics:
    """Sample processor, memory, disk and network, not more often than every ten seconds; nothing without psutil."""

    def __init__(self) -> None:
        self._monitors: list[Any] = []
        self._next = time.monotonic() + EVERY
        try:
            from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
            from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
            from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        except ImportError:
            return
        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
        self._read()  # psutil counts the load from its first question on

    def sample(self) -> dict[str, float]:
        """Return the metrics, named as MLflow names them (``system/cpu_utilization_percentage``); empty between."""
        if time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + EVERY
        return self._read()

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
