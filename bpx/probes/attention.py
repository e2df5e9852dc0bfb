"""Attention: over how many tokens its weights spread, and the gradients of queries, keys and values."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.attention import Attention
from bpx.probes.probe import Key, Probe, ProbeContext

GRADIENTS = ("query_grad_l2", "key_grad_l2", "value_grad_l2")


@final
class AttentionWeights(Probe):
    """Measure every layer of attention.

    - attention_entropy, by head (``index``, from 1): mean over samples and queries of -sum_j P_j ln P_j / ln(tokens),
      1 where all tokens weigh the same, 0 where one has all the weight (Zhai et al. 2023)
    - query_grad_l2, key_grad_l2, value_grad_l2: sqrt(mean over the samples of |dJ_i/dQ|**2), over all heads, and the
      same for K and V: the first two vanish where the softmax saturates, and where all tokens are alike (Noci
      et al. 2022)
    """

    name = "attention"
    other_quantities = ("attention_entropy", *GRADIENTS)

    def __init__(self, context: ProbeContext) -> None:
        self.attentions = [layer for layer in context.net.layers() if isinstance(layer, Attention)]
        keys: list[Key] = []
        for layer in self.attentions:
            name = layer.name.partition(".")[0]
            keys += [(name, layer.kind, "attention_entropy", head) for head in range(1, layer.heads + 1)]
            keys += [(name, layer.kind, quantity, 0) for quantity in GRADIENTS]
        self.declare(keys)

    def on_gradient(self, step: int) -> None:
        """Read the weights of the last forward, and what backward has left."""
        found: list[float] = []
        for layer in self.attentions:
            P = np.asarray(layer.P, np.float64)
            logs = np.log(P, out=np.zeros_like(P), where=P > 0)
            entropy = -(P * logs).sum(axis=3).mean(axis=(0, 2)) / max(math.log(P.shape[3]), 1e-300)
            dx = np.asarray(layer.dx, np.float64).reshape(*layer.dx.shape[:2], 3, -1)
            found += [*entropy, *np.sqrt(np.square(dx).sum(axis=(0, 1, 3)) * len(dx))]  # dx holds the gradient / batch
        self.values[:] = found
