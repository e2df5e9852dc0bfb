"""diagnose: the finding for any network, in a notebook or anywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from bpx.diagnosis import Finding, diagnose_pass, observe, predict_network
from bpx.diagnosis.redrawn import FromSpec
from bpx.diagnosis.rows import about, predicted
from bpx.engine.network import Network
from bpx.probes import ProbeContext
from bpx.probes.gains import Gains
from bpx.probes.scales import Scales
from bpx.records import Rows


def diagnose(net: Network, x: ArrayLike, y: ArrayLike) -> Finding:
    """Return what the gradients of ``net`` do on the batch ``x`` (batch, n_in) with targets ``y``, and draw it.

    One pass forward and backward in training mode, in buffers of its own: the network stays as it is. The finding's
    ``figure`` is the profile by layer; a notebook shows the sentence and the figure. Theory takes the weights as drawn
    at random, so its part speaks of a network before training. The cause is found by taking each part out of a copy;
    remedies are measured on networks drawn anew by ``net.spec``, and worded as ``python -m bpx.train`` takes them.
    Raises ValueError where x or y does not fit the network.
    """
    from bpx.figures import layer_profile

    x = np.ascontiguousarray(x, net.dtype)
    if x.ndim < 2 or x.shape[1:] not in (net.shape, (net.n_in,)) or len(x) == 0:
        raise ValueError(f"x must be (samples, {net.n_in}), got {x.shape}")
    if n_bad := int((~np.isfinite(x)).any(axis=tuple(range(1, x.ndim))).sum()):
        raise ValueError(f"x must be finite, got NaN or infinity in {n_bad} of {len(x)} samples")
    y = np.asarray(y)
    replica = net.replica(len(x))
    replica.cost(x, y if y.ndim == len(net.out_shape) else y.astype(net.dtype))
    replica.backward()
    known, _, prediction = predict_network(replica)
    observation = observe(replica)
    finding = diagnose_pass(replica, observation, prediction, FromSpec(replica) if replica.spec else None)
    rows = Rows()
    context = ProbeContext(replica)
    for probe in (Scales(context), Gains(context)):
        probe.on_gradient(0)
        rows.append(0, 0.0, probe.keys, probe.values)
    rows.append(0, 0.0, *predicted(prediction, observation))
    rows.about = about(replica, known) | {"finding": finding.as_dict(), "dataset": f"{len(x)} samples"}
    return replace(finding, figure=layer_profile(rows.records(), finding=False))
