"""A diagnosis as part of a record: facts about the network, theory's line and band as rows."""

from __future__ import annotations

import numpy as np

from bpx.diagnosis.observation import Observation
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Values
from bpx.engine.network import Network
from bpx.engine.parts import Json, describe
from bpx.probes.histograms import HIGHEST_DECADE, LOWEST_DECADE
from bpx.records import Keys
from bpx.theory import Architecture, Prediction

PREDICTED = (
    "predicted_delta_l2",
    "predicted_delta_l2_low",
    "predicted_delta_l2_high",
    "predicted_preactivation_rms",
    "predicted_preactivation_rms_low",
    "predicted_preactivation_rms_high",
)


def about(net: Network, known: Architecture | None) -> Json:
    """Return the facts about the network that figures need, as JSON."""
    facts: Json = {
        "batch_size": len(net.dense[0].y),
        "dtype": str(net.dtype),
        "histogram_decades": [LOWEST_DECADE, HIGHEST_DECADE],
        "jacobian_rank": min(net.n_in, net.n_out),
        "operations": {layer.kind: layer.display_name or layer.kind for layer in net.layers()},
    }
    return facts | architecture_facts(known)


def architecture_facts(known: Architecture | None) -> Json:
    """Return the facts about an architecture, as JSON; empty for one that theory does not know."""
    if known is None:
        return {}
    return {
        "activation": describe(known.activation, ACTIVATIONS),
        "normalization": known.normalization,
        "residual": known.residual,
        "keep": known.keep_prob,
        "sigma_b": known.bias_std,
        "sigma_w": known.sigma_w,
    }


def predicted(prediction: Prediction, observation: Observation) -> tuple[Keys, Values]:
    """Return theory's line and band as rows: delta_l2, from the last measured one on, and the RMS of z."""
    L = len(prediction.q)
    keys = tuple((f"layer_{i:02d}", "", quantity, 0) for quantity in PREDICTED for i in range(1, L + 1))
    if not L:
        return keys, np.zeros(0)
    profiles = (prediction.log10_delta, prediction.low, prediction.high)
    with np.errstate(all="ignore"):  # a band may end beyond all numbers
        lines = [observation.delta_l2[-1] * 10 ** np.array(x) for x in profiles]
        lengths = [np.sqrt(q) for q in (prediction.q, prediction.q_low, prediction.q_high)]
    return keys, np.concatenate([*lines, *lengths])
