"""What is measured of one optimizer step: the pass before it, the update that it makes, clipping, lost updates."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bpx.probes import Reading
from bpx.probes.scales import QUANTITIES
from bpx.torch.capture import Capture
from bpx.torch.measure import PassMeasurement
from bpx.torch.modules import hooked, weights
from bpx.torch.reductions import Scalar, combined, gathered, norm, total_norm

Before = dict[int, Tensor]  # the weights before a step, by the id of their parameter
UPDATES = ("lost_updates", "zero_gradients")
CLIP_TOLERANCE = 1e-5  # a norm that is smaller by less than this share was not clipped


@final
class Arrivals:
    """The norms of the gradients as backward leaves them, before anything is clipped, by the id of their parameter."""

    def __init__(self, model: nn.Module) -> None:
        self.norms: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = [
            p.register_post_accumulate_grad_hook(self._note) for p in model.parameters() if p.requires_grad
        ]

    def _note(self, p: Tensor) -> None:
        self.norms[id(p)] = norm(p.grad)

    def clip_coefficient(self, model: nn.Module, scale: float) -> float:
        """Return |g| at the step over |g| after backward, divided by ``scale``; 1 where nothing was clipped."""
        parameters = [p for p in model.parameters() if id(p) in self.norms and p.grad is not None]
        if not parameters:
            return math.nan
        before = float(combined([self.norms[id(p)] for p in parameters])) / scale
        after = float(total_norm([p.grad for p in parameters]))
        ratio = after / before if before > 0 else math.nan
        return 1.0 if ratio > 1 - CLIP_TOLERANCE else ratio

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


@final
class StepMeasurement:
    """Take what a pass shows while its gradients are there, and complete it when the optimizer has made its step.

    ``before`` are the weights before the step, ``clip`` is the clip coefficient, NaN where it is not known.
    """

    def __init__(self, measured: PassMeasurement, before: Before, clip: float, *, standard: bool) -> None:
        self.measured, self.clip, self.standard = measured, clip, standard
        self._readings, self._before = measured.readings(standard=standard), before

    def made(self) -> list[Reading]:
        """Return what was measured, the update among it: update_ratio = |dW| / |W|, and the share of lost updates."""
        table: list[list[Scalar]] = []
        lost: list[list[Scalar]] = []
        for call in self.measured.layers:
            pairs = [(w, self._before[id(w)]) for w in weights(call.module)]
            size, step = total_norm([b for _, b in pairs]), total_norm([w.detach() - b for w, b in pairs])
            table.append([step, size])
            if self.standard:
                lost.append(_lost(pairs))
        readings = list(self._readings)
        scales = readings[0].values.reshape(-1, len(QUANTITIES))  # a view
        with np.errstate(all="ignore"):
            steps = gathered(table)
            scales[:, QUANTITIES.index("weight_norm")] = steps[:, 1]
            scales[:, QUANTITIES.index("update_ratio")] = steps[:, 0] / steps[:, 1]
        if self.standard:
            readings.append(self.measured.reading("updates", UPDATES, gathered(lost)))
        if not math.isnan(self.clip):
            readings.append(Reading("clipping", (("", "", "clip_coefficient", 0),), np.array([self.clip])))
        return readings


def weights_of(capture: Capture) -> Before:
    """Return copies of the weights of every layer that is hooked."""
    held = [w for _, module, kind in hooked(capture.model) if kind == "weights" for w in weights(module)]
    return {id(w): w.detach().clone() for w in held}


def _lost(pairs: list[tuple[Tensor, Tensor]]) -> list[Scalar]:
    """Return the share of entries with a gradient that the step left as they were, and of those with none."""
    same, zero, size = [], [], 0
    for w, before in pairs:
        size += w.numel()
        if w.grad is None or w.grad.is_sparse:
            return [math.nan, math.nan]
        same.append(((w.detach() == before) & (w.grad != 0)).sum(dtype=torch.float64))
        zero.append((w.grad == 0).sum(dtype=torch.float64))
    return [torch.stack(same).sum() / size, torch.stack(zero).sum() / size] if pairs else [math.nan, math.nan]
