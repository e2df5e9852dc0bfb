"""The check of a probe."""

from __future__ import annotations

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.models import mlp
from bpx.engine.network import Network
from bpx.engine.optimizers import sgd
from bpx.probes.probe import Probe, ProbeContext
from bpx.testing.expect import DTYPES, expect, expect_named, expect_same_state

STEPS, ROWS = 4, 8


def check_probe(probe: type[Probe]) -> None:
    """Check a probe.

    That its values are float64, one for each of its keys, every quantity being one that the class names; that it reads
    only: the same network trained with and without it has the same bits, its buffers included; that it repeats; a name
    and a docstring.

    Parameters
    ----------
    probe : type of Probe
        The class: a run builds it with a ProbeContext.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(probe)
    for dtype in DTYPES:
        plain, _ = _train(None, dtype)
        net, first = _train(probe, dtype)
        expect_same_state(
            _buffers(plain), _buffers(net), f"{name} must only read: training in {dtype} ends otherwise with it"
        )
        _, again = _train(probe, dtype)
        expect(np.array_equal(first, again, equal_nan=True), f"{name} measures other values in the same training")


def _train(cls: type[Probe] | None, dtype: DType) -> tuple[Network, Array]:
    """Return a network after a few steps, and what a probe of it measured in them, (steps, keys)."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, 4)).astype(dtype), rng.integers(0, 3, ROWS)
    net = mlp(4, [6, 6], 3, "tanh", normalization="batch", dropout=0.2, dtype=dtype.name, seed=2).bind(ROWS)
    optimizer = sgd(0.1, clip_norm=1.0).bind(net.parameters)
    probe = cls(ProbeContext(net, optimizer, x, y)) if cls else None
    measured = []
    for step in range(STEPS):
        net.cost(x, y)
        net.backward()
        before = _buffers(net)
        if probe is not None:
            probe.on_gradient(step)
            expect_same_state(before, _buffers(net), f"{type(probe).__name__}.on_gradient must only read")
        optimizer.propose()
        before = _buffers(net) | {"u": optimizer.u.copy()}
        if probe is not None:
            probe.on_update(optimizer)
            after = _buffers(net) | {"u": optimizer.u}
            expect_same_state(before, after, f"{type(probe).__name__}.on_update must only read")
            _check_values(probe)
            measured.append(probe.values.copy())
        optimizer.apply()
    return net, np.array(measured)


def _buffers(net: Network) -> dict[str, Array]:
    found = {"theta": net.parameters.theta.copy(), "grad": net.parameters.grad.copy()}
    for layer in net.layers():
        found |= {f"{layer.name}.y": layer.y.copy(), f"{layer.name}.dx": layer.dx.copy()}
    return found


def _check_values(probe: Probe) -> None:
    name, known = type(probe).__name__, {*probe.layer_quantities, *probe.other_quantities}
    expect(len(set(probe.keys)) == len(probe.keys), f"{name}.keys must differ")
    for key in probe.keys:
        expect(key[2] in known, f"{name} measures {key[2]}: name it in layer_quantities or other_quantities")
    right = probe.values.shape == (len(probe.keys),) and probe.values.dtype == np.float64
    expect(right, f"{name}.values must be float64, one for each of its {len(probe.keys)} keys")
