"""Trackers: the local record of a run, and MLflow."""

from bpx.tracking.active_run import ActiveRun, run_is_active
from bpx.tracking.errors import TrackingError
from bpx.tracking.mlflow_tracker import MLflowTracker
from bpx.tracking.tracker import Child, Tracker

LocalTracker = Tracker  # tracking=none: the local record alone

__all__ = ["ActiveRun", "Child", "LocalTracker", "MLflowTracker", "Tracker", "TrackingError", "run_is_active"]
