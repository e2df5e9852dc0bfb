"""Where the gradient is lost: the backward gain of every operation."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.blas import norm
from bpx.engine.dense import Dense
from bpx.engine.layer import Layer
from bpx.engine.network import Network
from bpx.probes.probe import Key, Next, Probe, ProbeContext


@final
class Gains(Probe):
    """Measure |gradient that comes out of an operation's backward| / |gradient that went in|, L2 over the batch.

    - backward_gain: of the top-level operations after the first weights, ``index`` counting them from the
      input; between the last and the first hidden delta their logs add up to the total attenuation
    - branch_gain: the same of the operations inside residual blocks, and of the branch as a whole

    A gain of exactly 0 says that no gradient came through; where none went in there is no gain (NaN).
    """

    name = "gains"
    other_quantities = ("backward_gain", "branch_gain")

    def __init__(self, context: ProbeContext) -> None:
        blocks = context.net.blocks
        holders: list[Next] = [*blocks[1:], context.net.loss]
        chain = zip(range(len(blocks)), blocks, holders, strict=True)
        steps = [(i, block, after) for i, block, after in chain if block.needs_input_grad]
        self.pairs: list[tuple[Next, Next]] = []
        keys: list[Key] = []
        for i, block, after in reversed(steps):
            keys.append((_layer(block), block.kind, "backward_gain", i))
            self.pairs.append((block, after))
            branch = list(block.layers())[1:]
            if branch:
                inside: list[Next] = [*branch[1:], after]
                for inner, following in reversed(list(zip(branch, inside, strict=True))):
                    keys.append((_layer(inner), inner.kind, "branch_gain", i))
                    self.pairs.append((inner, following))
                keys.append((_layer(block), "branch", "branch_gain", i))
                self.pairs.append((branch[0], after))
        self.declare(keys)

    def on_gradient(self, step: int) -> None:
        """Divide the norms of what backward left in neighbouring buffers."""
        known: dict[int, float] = {}

        def size(holder: Next) -> float:
            if id(holder) not in known:
                known[id(holder)] = norm(holder.dx.reshape(-1))
            return known[id(holder)]

        for i, (out, into) in enumerate(self.pairs):
            entering = size(into)
            self.values[i] = size(out) / entering if entering > 0 else np.nan


def between_hidden(net: Network) -> range:
    """Return the indices of the operations between the first and the last hidden delta (the first hidden one's not)."""
    at = [i for i, block in enumerate(net.blocks) if any(isinstance(layer, Dense) for layer in block.layers())]
    return range(at[0] + 1, at[-2] + 1) if len(at) > 1 else range(0)


def _layer(block: Layer) -> str:
    return block.name.partition(".")[0]
