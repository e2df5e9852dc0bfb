"""What zeros around an image take away: the share of the patches that lies inside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bpx.engine.arrays import Array

Overlap = tuple[Array, ...]  # by axis (H', H): the share of the kernel's side that joins one position with another


def shares_inside(
    overlaps: Sequence[Overlap], branch_scale: float | None = None, *, equal: bool = False
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return by how much convolutions with zeros around an image change E z**2 and E ||delta||**2, beside their fan_in.

    u_(l+1) = K u_l is the profile of the variance over the positions, K the mean over a patch, 0 outside; forward the
    share is mean(K u) / mean(u), and backward sum(K^T w) / sum(w), w being the profile of delta**2, uniform after the
    last one. Many equal layers of kernel 3 and H x W pixels come to the largest eigenvalue,
    (1 + 2 cos(pi / (H + 1))) (1 + 2 cos(pi / (W + 1))) / 9. Exact for ReLU and linear layers, whose map is linear in q.

    Parameters
    ----------
    overlaps : sequence of tuple of ndarray (H', H)
        Of every convolution from the first on; empty where a layer has no positions.
    branch_scale : float, optional
        That of the branch which each layer but the first is, beside a shortcut.
    equal : bool
        Whether every position's length is made the same before each layer, by a normalization.

    Returns
    -------
    forward, backward : tuple of float
        Of every layer but the first.

    References
    ----------
    Xiao et al. (2018), Dynamical Isometry and a Mean Field Theory of CNNs, section 2, whose images have no borders.
    """
    inner = overlaps[1:]
    u, forward = _mean(overlaps[0], np.ones([A.shape[1] for A in overlaps[0]])), []
    for A in inner:
        forward.append(1.0)
        if A:
            u = np.ones_like(u) if equal else u
            passed = _mean(A, u)
            forward[-1] = float(passed.mean() / u.mean())
            u = passed if branch_scale is None else u + branch_scale**2 * passed
    w, backward = np.ones([len(A) for A in overlaps[-1]]), []
    for A in reversed(inner):
        backward.append(1.0)
        if A:
            w = np.ones_like(w) if equal else w
            passed = _mean(tuple(a.T for a in A), w)
            backward[-1] = float(passed.sum() / w.sum())
            w = passed if branch_scale is None else w + branch_scale**2 * passed
    return tuple(forward), tuple(backward[::-1])


def _mean(A: Overlap, u: Array) -> Array:
    """Apply ``A`` along every axis of ``u``."""
    for axis, a in enumerate(A):
        u = np.moveaxis(np.tensordot(a, u, (1, axis)), 0, axis)
    return u
