"""The tracker: MLflow, and the local record that does not depend on it."""

from bpx.tracking.errors import TrackingError
from bpx.tracking.mlflow_tracker import MLflowTracker
from bpx.tracking.parent import Parent
from bpx.tracking.tracker import Child, LocalTracker, Tracker

__all__ = ["Child", "LocalTracker", "MLflowTracker", "Parent", "Tracker", "TrackingError"]
