"""The flight recorder: replay the last steps before NaN or infinity, from a copy of the state in memory.

Training is deterministic: a copy of the state every 64 steps is enough to repeat the last steps and inspect them.
"""

from __future__ import annotations

import math
from collections import deque
from typing import final

from bpx.engine.network import Network
from bpx.probes.nonfinite import largest
from bpx.probes.probe import weight_layers
from bpx.system.files import Json
from bpx.training.state import State, Training

EVERY = 64  # steps between two copies
FRAMES = 8


@final
class FlightRecorder:
    """Keep copies of the state of ``training``; called after every step."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self._states: deque[tuple[int, State]] = deque(maxlen=2)
        self._rates: deque[tuple[int, float]] = deque(maxlen=2 * EVERY)
        self.restart()

    def restart(self) -> None:
        """Discard the copies, and begin with the present state."""
        self._rates.clear()
        self._states.clear()
        self._keep()

    def __call__(self) -> None:
        """Store the learning rate of the step, which may depend on evaluations, and copy the state every 64 steps."""
        step = self.training.progress.step
        self._rates.append((step - 1, self.training.optimizer.lr))
        if step % EVERY == 0:
            self._keep()

    def replay(self, step: int) -> list[Json]:
        """Return a frame of each of the last steps up to ``step``; training is left inside that step."""
        t, rates = self.training, dict(self._rates)
        t.restore(self._before(step)[1])
        frames: deque[Json] = deque(maxlen=FRAMES)
        for x, y in t.batches:
            cost, at = t.net.cost(x, y), t.progress.step
            if math.isfinite(cost):
                t.net.backward()
            if at > step - FRAMES:
                frames.append(frame(t.net, at, cost))
            if at >= step or not math.isfinite(cost):
                break
            t.optimizer.fix_lr(rates[at])
            t.optimizer.propose()
            t.optimizer.apply()
            t.progress.step += 1
        return list(frames)

    def past(self) -> State:
        """Return the state from which the steps before this one can be replayed, for a checkpoint."""
        at, state = self._before(self.training.progress.step)
        return State(state.arrays, state.facts | {"step": at, "rates": [list(rate) for rate in self._rates]})

    def recall(self, past: State) -> None:
        """Restore what ``past`` returned; raises ValueError or KeyError for anything else."""
        self._rates.clear()
        self._rates.extend((int(step), float(lr)) for step, lr in past.facts["rates"])
        self._states.clear()
        self._states.append((int(past.facts["step"]), past))
        self._keep()

    def _before(self, step: int) -> tuple[int, State]:
        """Return the latest copy far enough before a step, or the first one."""
        early = [kept for kept in self._states if kept[0] <= step - FRAMES + 1]
        return early[-1] if early else self._states[0]

    def _keep(self) -> None:
        self._states.append((self.training.progress.step, self.training.capture()))


def frame(net: Network, step: int, cost: float) -> Json:
    """Return the cost, and the largest finite magnitude of z, a, delta, dW and W in every layer.

    Where the cost is not finite, delta and dW are those of the step before.
    """
    n = len(net.dense[0].y)
    layers = {
        layer.name: {
            "z": largest(layer.dense.y),
            "a": largest(layer.output.y),
            "delta": largest(layer.next.dx) * n,
            "dW": largest(layer.dense.W.grad),
            "W": largest(layer.dense.W.value),
        }
        for layer in weight_layers(net)
    }
    return {"step": step, "cost": cost if math.isfinite(cost) else str(cost), "layers": layers}
