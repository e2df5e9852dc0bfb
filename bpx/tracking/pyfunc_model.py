"""The model as MLflow loads it: run as a script from inside the logged model, which carries the engine along."""

import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel


class TrainedNetwork(PythonModel):
    """Raw features in, the trained network's classes or probabilities out, or the numbers of a regression."""

    def load_context(self, context: Any) -> None:
        """Read the network's two files; ``model_config={"allow": ["myact"]}`` names modules that may be imported."""
        folder = Path(context.artifacts["network"])
        try:
            from bpx.engine.model_files import load_model
        except ImportError:  # bpx is not installed here: the model brought its engine along
            for name in [n for n in sys.modules if n.split(".")[0] == "bpx"]:
                del sys.modules[name]  # what an uninstalled bpx left behind may have been found as an empty package
            sys.path.insert(0, str(folder / "code"))
            from bpx.engine.model_files import load_model
        self.model = load_model(folder, (context.model_config or {}).get("allow", ()))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Return the classes (n,) of raw features: a data frame, matched by name, or an array or list (n, features).

        ``params={"output": "probabilities"}`` gives (n, n_classes). A regression gives its numbers, (n, n_targets), or
        (n,) where there is one target. A network that answers at every step gives (n, steps), or (n, steps, n_targets).
        """
        output = (params or {}).get("output", "classes")
        if output not in ("classes", "probabilities"):
            raise ValueError(f"output must be classes or probabilities, got {output!r}")
        if self.model.class_names and output == "classes":
            return self.model.classes(model_input)
        outputs = self.model.predict(model_input)
        return outputs if outputs.shape[-1] > 1 else outputs[..., 0]


mlflow.models.set_model(TrainedNetwork())
