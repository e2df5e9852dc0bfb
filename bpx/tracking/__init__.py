"""The tracker: MLflow, and the local record that does not depend on it."""

from bpx.tracking.mlflow_tracker import MLflowTracker
from bpx.tracking.parent import Parent
from bpx.tracking.tracker import Child, LocalTracker, Tracker, TrackingError

__all__ = ["Child", "LocalTracker", "MLflowTracker", "Parent", "Tracker", "TrackingError"]
