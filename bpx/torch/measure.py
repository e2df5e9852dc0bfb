"""The quantities of one pass, layer by layer, by the names and definitions of ``bpx.probes``."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from bpx.diagnosis.observation import Observation
from bpx.probes import DepthSlope, Reading, fit_slope, forward_slope
from bpx.probes.probe import per_layer
from bpx.probes.scales import QUANTITIES
from bpx.records import Keys
from bpx.torch.calls import Call, sample_axis
from bpx.torch.capture import Capture
from bpx.torch.modules import biases, own_weight, weights
from bpx.torch.operations import inside, kind, operations
from bpx.torch.reductions import Scalar, Values, combined, gathered, mean, norm, share, total_norm

MOMENTS = ("mean", "abs_mean", "std", "rms")
UNITS = ("dead_units", "zero_activations")
AGREEMENT = ("delta_coherence", "gradient_snr")
REDUCTIONS = ("mean", "sum")


@final
class PassMeasurement:
    """What a pass of ``n`` samples shows of the weight layers in ``capture``, whose backward is done.

    ``reduction`` tells how the loss combines the samples: the gradients are multiplied by n where it is ``mean``, so
    that delta is that of a sample, by ``accumulate``, the number of batches that the loss is divided by, and divided
    by ``scale``, the loss scale of mixed precision. ``arrived`` are the
    norms of the parameters' gradients as they arrived, by id, where ``.grad`` may have been clipped and unscaled since.
    Layers that no gradient came back to are left out.
    """

    def __init__(
        self,
        capture: Capture,
        n: int,
        reduction: str = "mean",
        scale: float = 1.0,
        arrived: dict[int, Tensor] | None = None,
        accumulate: int = 1,
    ) -> None:
        self.capture, self.n, self.scale, self.arrived = capture, n, scale, arrived or {}
        self.layers = capture.reached
        self.hidden = [self.layers.index(call) for call in capture.hidden]
        self.factor = (n if reduction == "mean" else 1.0) * accumulate / scale
        self._activations = [capture.activation(call) for call in self.layers]
        self.dtype = str(self.layers[0].y.dtype).removeprefix("torch.") if self.layers else "float32"
        self.names = tuple(f"layer_{i:02d}" for i in range(1, len(self.layers) + 1))
        self.modules = tuple(call.name for call in self.layers)

    def readings(self, *, standard: bool = True) -> list[Reading]:
        """Return what probes of bpx would: the scales and, where ``standard``, units and agreement of the samples."""
        found = [self.reading("scales", QUANTITIES, self.scales())]
        if standard:
            found += [self.reading("units", UNITS, self.units())]
            found += [self.reading("coherence", AGREEMENT, self.agreement())]
        return found

    def reading(self, probe: str, quantities: tuple[str, ...], values: Values) -> Reading:
        """Return ``values`` (layers, quantities) as what a probe reads."""
        return Reading(probe, tuple(per_layer(list(self.names), quantities)), values.reshape(-1))

    def scales(self) -> Values:
        """Return the quantities of ``bpx.probes.scales``, (layers, quantities); the update ratio is NaN."""
        table: list[list[Scalar]] = []
        for call, activation in zip(self.layers, self._activations, strict=True):
            norm = call.gradient_norm
            assert norm is not None
            after = (activation or call).found
            saturation = activation.found.get("saturation", math.nan) if activation else math.nan
            table.append([
                norm * self.factor / math.sqrt(call.size),
                norm * self.factor / math.sqrt(self.n),
                self._gradient_norm(weights(call.module)),
                self._gradient_norm(biases(call.module)),
                total_norm([p.detach() for p in weights(call.module)]),
                math.nan,
                saturation,
                *(call.found.get(m, math.nan) for m in MOMENTS),
                *(after.get(m, math.nan) for m in MOMENTS),
            ])  # fmt: skip
        return gathered(table)

    def agreement(self) -> Values:
        """Return delta_coherence and gradient_snr, (layers, 2); NaN where a layer's kind does not allow it."""
        return gathered([[self._coherence(call), self._snr(call)] for call in self.layers])

    def units(self) -> Values:
        """Return dead_units and zero_activations in the batch, (layers, 2), NaN where no activation follows."""
        table: list[list[Scalar]] = []
        for activation in self._activations:
            if activation is None or "moves" not in activation.found:
                table.append([math.nan, math.nan])
                continue
            moves, axis = activation.found["moves"], self._unit_axis(activation)
            alive = moves.movedim(axis, -1).flatten(0, -2).any(0) if moves.dim() > 1 else moves
            table.append([1 - share(alive), activation.found["zeros"]])
        return gathered(table)

    def gains(self) -> tuple[Keys, Values]:
        """Return the backward gain of every top-level operation but the first, the last one first."""
        ops = operations(self.capture)
        pairs = list(zip(ops[1:], ops, strict=False))[::-1]
        keys = tuple(
            (self._layer_of(op), kind(op), "backward_gain", i)
            for i, (op, _) in zip(range(len(pairs), 0, -1), pairs, strict=True)
        )
        norms = {id(op): op.gradient_norm for op in ops}
        table: list[list[Scalar]] = [[norms[id(before)], norms[id(op)]] for op, before in pairs]
        if not pairs:
            return (), np.zeros(0)
        values = gathered([[math.nan if v is None else v for v in row] for row in table])
        with np.errstate(all="ignore"):
            return keys, np.where(values[:, 1] > 0, values[:, 0] / values[:, 1], np.nan)

    def depth_slope(self) -> DepthSlope | None:
        """Return the line through delta of the hidden layers."""
        norms: list[Scalar] = [
            math.nan if (norm := self.layers[i].gradient_norm) is None else norm for i in self.hidden
        ]
        return fit_slope(gathered([norms])[0] * self.factor / math.sqrt(self.n)) if norms else None

    def observation(self) -> Observation:
        """Return the pass as the diagnosis takes it."""
        table = self.scales()
        hidden = table[self.hidden]
        delta = table[:, QUANTITIES.index("delta_l2")]
        l2, output = delta[self.hidden].copy(), float(delta[-1])
        saturation = hidden[:, QUANTITIES.index("saturation")]
        keys, gains = self.gains()
        stop = next((key[:2] for key, g in zip(keys, gains, strict=True) if g == 0), None)
        return Observation(
            delta_l2=l2,
            depth_slope=fit_slope(l2),
            forward_slope=forward_slope(hidden[:, QUANTITIES.index("activation_rms")]),
            gains=self._by_kind(keys, gains),
            saturation=float(np.nanmean(saturation)) if np.isfinite(saturation).any() else math.nan,
            blocked_at=None if stop is None else (self._named(stop[0]), stop[1]),
            loss_gradient_nonzero=output != 0,
            finite=bool(np.isfinite(delta).all()),
            output_gain=float(l2[-1]) / output if len(l2) and output > 0 else math.nan,
            dtype=self.dtype,
            layers=tuple(self.modules[i] for i in self.hidden),
        )

    def _by_kind(self, keys: Keys, gains: Values) -> dict[str, float]:
        """Return the mean log10 gain of each kind of operation between the first and the last hidden layer.

        Where the model is no chain of modules, that of a step from one weight layer to the one before it.
        """
        ops = operations(self.capture)
        at = [i for i, op in enumerate(ops) if any(c.role == "weights" for c in inside(op))]
        if len(at) != len(self.layers):
            at = at if len(at) > 2 else []
        within = range(at[0] + 1, at[-2] + 1) if len(at) > 1 else range(0)
        logs: dict[str, list[float]] = defaultdict(list)
        for (_, name, _, index), gain in zip(keys, gains.tolist(), strict=True):
            if index in within and gain > 0:
                logs[name].append(math.log10(gain))
        if not logs and len(ops) < 2:
            l2 = self.scales()[self.hidden, QUANTITIES.index("delta_l2")]
            logs["between weight layers"] = [math.log10(a / b) for a, b in pairwise(l2) if a > 0 < b]
        return {name: sum(found) / len(found) for name, found in logs.items() if found}

    def _gradient_norm(self, parameters: list[nn.Parameter]) -> Scalar:
        held = [p for p in parameters if p.grad is not None]
        return combined([self.arrived[id(p)] / self.scale if id(p) in self.arrived else norm(p.grad) for p in held])

    def _layer_of(self, op: Call) -> str:
        """Return the weight layer that an operation belongs to: in it, else the last one before it."""
        calls = self.capture.calls
        within = [c for c in inside(op) if c in self.layers]
        found = within or [c for c in calls[: calls.index(op)] if c in self.layers][-1:]
        return self.names[self.layers.index(found[0])] if found else ""

    def _named(self, layer: str) -> str:
        return self.modules[self.names.index(layer)] if layer else "the input"

    def _coherence(self, call: Call) -> Scalar:
        if len(call.norms) != 1 or len(call.sums) != 1:
            return math.nan
        spread = call.norms[0] * math.sqrt(self.n)
        return torch.where(spread > 0, call.sums[0] / spread, math.nan)

    def _snr(self, call: Call) -> Scalar:
        """Return |g|**2 / (tr Cov / B) of a Linear: |g_i|**2 = sum over positions t, s of (a_t.a_s) (d_t.d_s)."""
        if not isinstance(call.module, nn.Linear) or self.n < 2 or len(call.gradients) != 1 or call.x is None:
            return math.nan
        axis = sample_axis(call.module, call.gradients[0], self.n)
        once = sum(other.module is call.module for other in self.layers) == 1
        own = own_weight(call.module)
        if axis is None or not once or call.x.dim() > 3 or not (own is None or own.requires_grad):
            return math.nan
        dtype = torch.promote_types(torch.promote_types(call.x.dtype, call.gradients[0].dtype), torch.float32)
        pair = (t.to(dtype).movedim(axis, 0).reshape(self.n, -1, t.shape[-1]) for t in (call.x, call.gradients[0]))
        a, delta = (t / largest if 0 < float(largest := t.abs().max()) < math.inf else None for t in pair)
        if a is None or delta is None:
            return math.nan
        squares = mean((a @ a.mT) * (delta @ delta.mT)) * (self.n * a.shape[1] ** 2)
        square = norm(delta.flatten(0, 1).mT @ a.flatten(0, 1)).square() / self.n**2
        noise = (squares - self.n * square) / (self.n - 1) / self.n
        return torch.where(noise > 0, square / noise, math.nan)

    def _unit_axis(self, activation: Call) -> int:
        """Return the axis of the units: that of the channels after a convolution, else the last."""
        at = self._activations.index(activation)
        convolves = not isinstance(self.layers[at].module, nn.Linear) and activation.y.dim() > 2
        return 1 if convolves else -1
