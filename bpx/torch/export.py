"""A trained network of bpx as files that others read: ONNX, an exported PyTorch program, safetensors."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Array
from bpx.engine.losses import MeanSquaredError, SigmoidCrossEntropy, SoftmaxCrossEntropy
from bpx.engine.model_files import SavedModel
from bpx.torch.convert import activation_module, to_torch

MIN_TORCH = (2, 6)  # the first whose exporters take programs with a free number of rows
FORMATS = {"onnx": "model.onnx", "torch": "model.pt2", "safetensors": "model.safetensors"}


@final
class Predictor(nn.Module):  # type: ignore[misc]
    """A saved model as one module: numbers as they are in the data go in, probabilities or targets come out.

    The scalers compute in float64 as those of the engine do, the network in ``dtype``, by default its own.
    """

    def __init__(self, model: SavedModel, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        net, loss = model.net, model.net.loss
        self.dtype = dtype or torch.from_numpy(net.parameters.theta[:0]).dtype
        self.shape = net.shape
        self.net = to_torch(net).eval().to(self.dtype)
        if isinstance(loss, SoftmaxCrossEntropy):
            self.output: nn.Module = nn.Softmax(dim=-1)
        elif isinstance(loss, MeanSquaredError):
            self.output = activation_module(ACTIVATIONS[loss.output]())
        elif isinstance(loss, SigmoidCrossEntropy):
            self.output = nn.Sigmoid()
        else:
            raise ValueError(f"the loss {loss.name} has no counterpart in PyTorch: use format=safetensors")
        self.register_buffer("shift", _tensor(model.scaler.shift))
        self.register_buffer("scale", _tensor(model.scaler.scale))
        target = model.target_scaler
        self.register_buffer("target_shift", None if target is None else _tensor(target.shift.reshape(net.out_shape)))
        self.register_buffer("target_scale", None if target is None else _tensor(target.scale.reshape(net.out_shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities or targets (n, *out_shape) for numbers (n, n_in), all values of a sample in a row."""
        scaled = ((x.double() - self.shift) / self.scale).to(self.dtype)
        y = self.output(self.net(scaled.unflatten(1, self.shape)))
        return y if self.target_scale is None else y * self.target_scale + self.target_shift


def export(model: SavedModel, form: str, path: Path) -> None:
    """Write a saved model to ``path``.

    Parameters
    ----------
    model : SavedModel
        What ``bpx.engine.model_files.load_model`` returns.
    form : {"onnx", "torch", "safetensors"}
        ``onnx`` and ``torch`` hold the ``Predictor``, with scalers and output function: ONNX takes ``x`` (n, n_in) in
        float64 and computes the network in float32, for which runtimes have every operation. ``safetensors`` holds
        the named tensors.
    path : Path
        The file.

    Raises
    ------
    ValueError
        The form is unknown, or a layer has no counterpart in PyTorch.
    ImportError
        A package of the extra ``export`` is missing, or PyTorch is older than 2.6.
    """
    if form not in FORMATS:
        raise ValueError(f"format: expected {', '.join(FORMATS)}, got {form!r}")
    if form == "safetensors":
        from safetensors.numpy import save_file

        save_file({key: np.ascontiguousarray(value) for key, value in _named(model).items()}, path)
        return
    if tuple(map(int, torch.__version__.split(".")[:2])) < MIN_TORCH:
        raise ImportError(f"expected torch 2.6 or newer, got {torch.__version__}")
    predictor = Predictor(model, torch.float32 if form == "onnx" else None).eval()
    example = torch.zeros(2, model.net.n_in, dtype=torch.float64)
    rows = torch.export.Dim("n", min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporters' own
        program = torch.export.export(predictor, (example,), dynamic_shapes={"x": {0: rows}})
        if form == "torch":
            torch.export.save(program, path)
            return
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are not needed
        made = torch.onnx.export(program, input_names=["x"], output_names=["y"], dynamo=True, verbose=False)
        made.save(str(path))


def _named(model: SavedModel) -> dict[str, Array]:
    named = model.net.tensors() | {"scaler.shift": model.scaler.shift, "scaler.scale": model.scaler.scale}
    if model.target_scaler is not None:
        named |= {"target.shift": model.target_scaler.shift, "target.scale": model.target_scaler.scale}
    return named


def _tensor(a: Array) -> Tensor:
    return torch.from_numpy(np.array(a, np.float64))
