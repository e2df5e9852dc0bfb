"""The model as MLflow loads it: run as a script from inside the logged model, which carries the engine along."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel


with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # MLflow asks for hints that it then does not support

    class TrainedNetwork(PythonModel):  # type: ignore[misc]
        """Raw features in, the trained network's probabilities (or outputs) out."""

        def load_context(self, context: Any) -> None:
            """Read the network's two files."""
            from bpx.engine.model_files import load_model

            self.model = load_model(Path(context.artifacts["network"]))

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints
            """Return (n, n_out) for features (n, n_in), an array or a data frame."""
            return self.model.predict(model_input)


mlflow.models.set_model(TrainedNetwork())
