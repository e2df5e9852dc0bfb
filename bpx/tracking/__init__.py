"""The tracker: MLflow, and the local record that does not depend on it."""

from bpx.tracking.mlflow_tracker import MLflowTracker
from bpx.tracking.tracker import LocalTracker, Tracker, TrackingError

__all__ = ["LocalTracker", "MLflowTracker", "Tracker", "TrackingError"]
