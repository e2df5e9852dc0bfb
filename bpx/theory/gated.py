"""The gradient through time of cells with gates: mean field with the same recurrent weights at every step."""

from __future__ import annotations

import math

import numpy as np

from bpx.engine.arrays import Array, Values


def gradient_through_time(
    keep: Array, enter: Array, by_state: Array, by_source: Array, variances: Values, source_is_h: bool
) -> Values:
    """Return the L2 norm of dJ/dh_t by step, at any scale, of a cell whose forward pass is known, (steps,).

    Backward a unit has a state s_t = keep_(t+1) s_(t+1) + enter_t e_t, sends delta_t = by_state_t s_t + by_source_t e_t
    to every gate, and gets e_(t-1) = sum over the gates of W delta_t. In wide layers, W independent of what it meets on
    its way back, the e_t of a unit are Gaussian with

        E e_t e_u = sum over the gates of n var(W) E[delta_(t+1) delta_(u+1)],

    the mean over units and samples. That they are correlated is what the same W at every step does to a state that is
    kept; with weights drawn anew they are not (Chen et al. 2018; Gilboa et al. 2019, section 3).

    Parameters
    ----------
    keep, enter : ndarray (steps, draws)
        Of units and samples of the forward pass.
    by_state, by_source : ndarray (gates, steps, draws)
        Likewise, for every gate.
    variances : ndarray (gates,)
        n var(W) by gate.
    source_is_h : bool
        Whether dJ/dh_t is e_t, not s_t.
    """
    steps, draws = keep.shape
    gates = len(variances)
    scale = np.sqrt(variances / draws)[:, None, None]
    L = np.zeros((steps, steps))  # e of every step, the last one first, in independent normals
    L[0, 0] = 1
    state = np.zeros((steps, draws))  # s of every draw, likewise
    sent: list[Array] = []
    found = np.zeros(steps)
    for a, t in enumerate(reversed(range(steps))):
        source = L[a, : a + 1, None]
        state[: a + 1] += source * enter[t]
        found[t] = np.linalg.norm(L[a]) if source_is_h else np.linalg.norm(state) / math.sqrt(draws)
        if a + 1 < steps:
            delta = scale * (by_state[:, None, t] * state[: a + 1] + by_source[:, None, t] * source)
            sent.append(np.ascontiguousarray(delta.swapaxes(0, 1)).reshape(a + 1, gates * draws))
            covariance = np.array([np.vdot(before, sent[a][: len(before)]) for before in sent])
            L[a + 1] = _next_row(L[: a + 1], covariance[:-1], covariance[-1])
        state *= keep[t]
    return found


def _next_row(L: Array, covariance: Values, variance: float) -> Values:
    """Return the next row of the Cholesky factor ``L`` (k, steps), given the covariance with rows 1 to k - 1.

    Row 0 is what the loss sends, independent of all that comes of it.
    """
    row = np.zeros(L.shape[1])
    for j in range(1, len(L)):
        if L[j, j] > 0:
            row[j] = (covariance[j - 1] - row[:j] @ L[j, :j]) / L[j, j]
    row[len(L)] = math.sqrt(max(variance - float(row @ row), 0.0))
    return row
