"""Shortcuts: how delta lines up with the signal in a residual net, whose units keep part of their z.

Block l is h_(l+1) = h_l + y_l, y_l = W_l phi_l, and backward g_l = g_(l+1) + J_l W_l^T g_(l+1), J_l = phi' and a
normalization's Jacobian. Given y_l, W_l^T g has a part phi_l (y_l . g) / |phi_l|**2 beside a random rest, so that

    g_l = g_(l+1) + psi_l (y_l . g_(l+1)) / |phi_l|**2 + J_l xi_l,   psi_l = J_l phi_l.

|g|**2 grows by the overlap 2 (g . psi_l) (y_l . g) / |phi_l|**2, which random g do not have; the second moments of all
g . y_k and g . psi_k are followed from the output back. y and psi are Gaussian processes over the layers, of one unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.architecture import Architecture, NormalizationRole
from bpx.theory.fluctuation import CORRELATIONS, unit_variance
from bpx.theory.gaussian import dphi, pair_rule, phi, resolved, rule
from bpx.theory.steps import Step

_NEARLY_ONE = 0.999  # stands for a correlation of 1, where a kink's derivative has no table


@final
@dataclass(frozen=True)
class Overlaps:
    """What the overlaps of delta with the signal do in every residual block, from the input on (L - 1,).

    Attributes
    ----------
    growth : ndarray (L - 1,)
        ln of what multiplies E ||delta_l||**2 / E ||delta_(l+1)||**2 beside theory's factor.
    masked : ndarray (L - 1,)
        E[g_(l+1)**2 phi_l'**2] / (E[g**2] E[phi'**2]): delta stands where phi' of the layers before it stood.
    noise : ndarray (L - 1, L - 1)
        Covariance of a sample's growth: of (g . psi)(g . y) where both have a mean, and each the noise of a random g.
    returned : ndarray (L - 1,)
        What comes back along the signal, of ||delta_l||**2: it was sent, and does not grow with delta by chance.
    along : float
        Largest share of delta in a block that comes back through the overlaps.
    """

    growth: Array
    masked: Array
    noise: Array
    returned: Array
    along: float


@final
@dataclass(frozen=True)
class _Tables:
    """Moments of one unit at two layers, z1 and z2 ~ N(0, 1), by CORRELATIONS; p = psi sqrt(q) / A."""

    pp: Array  # E[p(z1) p(z2)]
    turned: Array  # E[phi'(z2)**2 (z2 - rho z1) p(z1)] / ((1 - rho**2) D)
    masks: Array  # E[phi'(z1)**2 phi'(z2)**2] / D**2
    straight: float  # E[z p(z)]
    bent: float  # E[(z**2 - 1) phi'(z)**2] / D
    level: float  # A / (q D)


@lru_cache(maxsize=64)
def _tables(function: ActivationFunction, q: float, role: NormalizationRole) -> _Tables:
    _, z, w = rule(q, function.kinks)
    scale = math.sqrt(q)

    def moments(z: Array) -> tuple[Array, Array]:
        """Return phi * phi' and phi'**2 at sqrt(q) * z, by the derivative to z."""
        d = dphi(function, scale * z) * scale
        return phi(function, scale * z) * d, d * d

    A, (product, slope) = float(w @ phi(function, scale * z) ** 2), moments(z)
    D = float(w @ slope)
    mean = float(w @ product) if role.holds_mean else 0.0  # what the normalization's backward takes out
    along = float(w @ (product * z)) if role.holds_length else 0.0
    found = []
    for c in CORRELATIONS:
        rho = min(c, _NEARLY_ONE)
        u1, w1, u2, w2 = pair_rule(q, rho, function.kinks)
        z1, z2 = u1 / scale, u2 / scale
        (p1, d1), (p2, d2) = moments(z1), moments(z2)
        p1, p2 = (p1 - mean - along * z1) / A, (p2 - mean - along * z2) / A
        apart = (z2 - rho * z1[:, None]) / (1 - rho * rho)
        inner = [np.sum(w2 * v, axis=1) for v in (p2, d2 * apart, d2)]
        found.append([w1 @ (p1 * inner[0]), w1 @ (p1 * inner[1]) / D, w1 @ (d1 * inner[2]) / (D * D)])
    pp, turned, masks = np.array(found, float).T
    straight = float(w @ (z * (product - along * z))) / A
    return _Tables(pp, turned, masks, straight, float(w @ ((z * z - 1) * slope)) / D, A / D)


def resolves_overlaps(net: Architecture, q: Sequence[float]) -> bool:
    """Return whether the tables hold at variances ``q``: a periodic phi asks for correlations closer to 1."""
    length = net.activation_variance(max(q))
    return resolved(net.activation, length) == length


def overlaps(net: Architecture, q: Sequence[float], steps: Sequence[Step], kappa: float) -> Overlaps:
    """Follow the overlaps from the output, where E (z . delta)**2 is ``kappa`` times that of a random delta."""
    n, L = net.hidden[0], len(q)
    lengths = np.array(q)
    scale = net.activation_variance(float(f"{np.exp(np.log(lengths).mean()):.2g}"))
    scale = unit_variance(net.activation, scale)  # whose tables are these too, and no number overflows
    t = _tables(net.activation, scale, net.role)
    chi = np.array([*(s.factor - 1 for s in steps), 1.0])  # of a branch; of the output layer, but for its scale
    std = np.sqrt([*(s.forward_share * s.q for s in steps), t.level * q[-1]])  # of y
    relative = std / np.sqrt(lengths)
    rho = np.sqrt(np.minimum.outer(lengths, lengths) / np.maximum.outer(lengths, lengths))
    psi_psi = np.interp(rho, CORRELATIONS, t.pp) * np.outer(relative, relative)  # of psi std / A, as all that follows
    psi_y = t.straight * np.outer(relative / np.sqrt(lengths), std)
    yy, yp = np.zeros((L, L)), np.zeros((L, L))  # E (g . y_k)(g . y_m) / |g|**2 and E (g . y_k)(g . psi_m) / |g|**2
    yy[-1, -1], stood = kappa, np.zeros(L)
    returned = np.zeros(L - 1)
    growth, masked, std_growth, along = np.zeros(L - 1), np.zeros(L - 1), np.zeros(L - 1), 0.0
    for layer in reversed(range(L)):
        passed, k = float(layer < L - 1), slice(0, layer)
        to_y, to_psi, excess = psi_y[layer, k], psi_psi[layer, k], yy[layer, layer] - 1
        back = (2 * passed * yp[layer, layer] + psi_psi[layer, layer] * excess) / n
        gain = max(passed + chi[layer] + back, 1 / n)
        if passed:
            masked[layer] = stood[layer]
            returned[layer] = (back + psi_psi[layer, layer] / n) / gain
            mean = yp[layer, layer] ** 2 / max(excess, 1.0) + max(excess, 0.0) * psi_psi[layer, layer]
            std_growth[layer] = math.sqrt(max(mean + psi_psi[layer, layer], 0.0)) * 2 / n / gain
            growth[layer] = math.log(gain / (1 + chi[layer]))
            along = max(along, abs(back) / (1 + chi[layer]))
        fresh = chi[layer] * (np.eye(layer) + t.bent * np.outer(std[k], std[k]) / lengths[layer])
        turned = np.interp(rho[layer, k], CORRELATIONS, t.turned) * relative[k] / math.sqrt(lengths[layer])
        aligned = chi[layer] * np.tril(np.outer(std[k], turned))  # of y_k and psi_m for m <= k
        with_y, with_psi = yy[layer, k], yp[layer, k]
        across = np.outer(to_y, with_y)
        new_yy = passed * yy[k, k] + across + across.T + excess * np.outer(to_y, to_y) + fresh
        new_yp = passed * yp[k, k] + np.outer(to_y, with_psi) + np.outer(with_y + excess * to_y, to_psi) + aligned
        yy[k, k], yp[k, k] = new_yy / gain, new_yp / gain
        stood[k] = passed * stood[k] + chi[layer] * np.interp(rho[layer, k], CORRELATIONS, t.masks)
        stood[k] /= passed + chi[layer]
    return Overlaps(growth, masked, np.outer(std_growth, std_growth) * rho[:-1, :-1], returned, along)


@lru_cache(maxsize=64)
def lifts(function: ActivationFunction, q: float) -> tuple[Array, Array]:
    """Return 1/2 E[(phi(z1)**2 / A - 1) f''(z2)] for f = phi**2 / A and phi'**2 / D, by CORRELATIONS; z of variance 1.

    A unit with a large phi**2 makes the length of what is added to it: it has more of phi**2 later on.
    """
    scale = math.sqrt(q)
    _, z, w = rule(q, function.kinks)
    A, D = (float(w @ v(function, scale * z) ** 2) for v in (phi, dphi))
    found = []
    for c in CORRELATIONS:
        rho = min(c, _NEARLY_ONE)
        u1, w1, u2, w2 = pair_rule(q, rho, function.kinks)
        excess = w1 * (phi(function, u1) ** 2 / A - 1)
        z2 = (u2 - rho * u1[:, None]) / scale
        weights = w2 * (z2 * z2 / (1 - rho * rho) - 1) / (2 * (1 - rho * rho))  # integrates f'' by parts
        found.append([excess @ np.sum(weights * v(function, u2) ** 2, axis=1) for v in (phi, dphi)])
    forward, backward = np.array(found, float).T
    return forward / A, backward / D
