"""The engine's layers that PyTorch has no module for; samples are (*positions, features), as in the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class Residual(nn.Module):  # type: ignore[misc]
    """Add a branch to its input: y = x + branch(x) (He et al. 2016, the pre-activation form)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + branch(x)."""
        return x + self.branch(x)


@final
class Scale(nn.Module):  # type: ignore[misc]
    """Multiply by one number, fixed or learned, at the end of a residual branch (De & Smith 2020, SkipInit)."""

    def __init__(self, alpha: float, *, learned: bool = False) -> None:
        super().__init__()
        self.learned = learned
        self.alpha = nn.Parameter(torch.full((1,), alpha)) if learned else alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return alpha x."""
        return self.alpha * x


@final
class ChannelsLast(nn.Module):  # type: ignore[misc]
    """Apply ``module``, which takes (n, channels, *positions), to (n, *positions, channels); nothing is copied."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output (n, *positions, channels)."""
        return self.module(x.movedim(-1, 1)).movedim(1, -1)


@final
class MeanPositions(nn.Module):  # type: ignore[misc]
    """Take the mean over all positions: (n, *positions, features) to (n, features)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean."""
        return x.flatten(1, -2).mean(1)


@final
class LastStep(nn.Module):  # type: ignore[misc]
    """Take the last step of a sequence: (n, steps, features) to (n, features)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the last step."""
        return x[:, -1]


@final
class Positions(nn.Module):  # type: ignore[misc]
    """Add a learned vector to every position: y = x + p (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + p."""
        return x + self.p


@final
class Attention(nn.Module):  # type: ignore[misc]
    """Scaled dot-product attention of several heads, (n, tokens, 3 d) to (n, tokens, d); it holds no weights.

    Its input are queries, keys and values, which a Linear makes. (Vaswani et al. 2017, section 3.2.)
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d / heads)) V of every head, side by side."""
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@final
class Recurrent(nn.Module):  # type: ignore[misc]
    """Return the outputs of ``cell`` (nn.RNN, LSTM, GRU or ActivatedRNN, batch first) at all steps.

    Parameters
    ----------
    cell : Module
        Of one layer and one direction.
    states : int
        How many states it has: 2 for LSTM, else 1.
    truncate : int, optional
        The steps after which the gradient stops (Williams & Peng 1990).
    learn_start : bool
        Whether the states before the first step, ``h0`` and ``c0``, are learned; they start at zero.
    """

    def __init__(
        self, cell: nn.Module, states: int = 1, truncate: int | None = None, learn_start: bool = False
    ) -> None:
        super().__init__()
        self.cell, self.truncate = cell, truncate
        self.starts = ("h0", "c0")[:states] if learn_start else ()
        for key in self.starts:
            setattr(self, key, nn.Parameter(torch.zeros(cell.hidden_size)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, steps, units)."""
        starts = [getattr(self, key).expand(1, x.shape[0], -1).contiguous() for key in self.starts]
        state = None if not starts else starts[0] if len(starts) == 1 else tuple(starts)
        if self.truncate is None:
            return self.cell(x, state)[0]
        outputs = []
        for piece in x.split(self.truncate, dim=1):
            y, state = self.cell(piece, state)
            outputs.append(y)
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        return torch.cat(outputs, dim=1)


@final
class ActivatedRNN(nn.Module):  # type: ignore[misc]
    """nn.RNN with any activation: h_t = phi(W_ih x_t + b + W_hh h_(t-1)), batch first."""

    def __init__(self, n_in: int, n: int, activation: nn.Module) -> None:
        super().__init__()
        self.hidden_size, self.activation = n, activation
        self.weight_ih_l0, self.weight_hh_l0 = nn.Parameter(torch.zeros(n, n_in)), nn.Parameter(torch.zeros(n, n))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(n))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs (n, steps, units) and the last state (1, n, units)."""
        u = nn.functional.linear(x, self.weight_ih_l0, self.bias_ih_l0)
        h = u.new_zeros(x.shape[0], self.hidden_size) if state is None else state[0]
        outputs = []
        for step in u.unbind(1):
            h = self.activation(step + nn.functional.linear(h, self.weight_hh_l0))
            outputs.append(h)
        return torch.stack(outputs, dim=1), h[None]
