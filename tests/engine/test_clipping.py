"""Clipping by unit and by running statistics: the papers' formulas, step by step, and their state."""

import numpy as np
import pytest

from bpx.engine import mlp, sgd
from bpx.engine.clipping import DECAY, MIN_NORM, N_FIRST, ClipUnits, ClipZScore


def norms_after(clip, norms):
    """Send gradients of these norms through ``clip`` and return those that come out."""
    g = np.zeros(4)
    out = []
    for size in norms:
        g[:] = size / 2
        u, factor = clip(g, 1.0)
        out.append(np.linalg.norm(u) * factor)
    return np.array(out)


def zclip(norms, limit):
    """Kumar et al. 2025, section 3, written anew."""
    first = norms[:N_FIRST]
    mean, variance, out = np.mean(first), np.var(first), list(first)
    for size in norms[N_FIRST:]:
        z = (size - mean) / np.sqrt(variance)
        if z > limit:
            size = mean + limit**2 / z * np.sqrt(variance)
        mean = DECAY * mean + (1 - DECAY) * size
        variance = DECAY * variance + (1 - DECAY) * (size - mean) ** 2
        out.append(size)
    return np.array(out)


def test_the_zscore_clips_as_published(rng):
    norms = 1 + 0.1 * rng.standard_normal(200)
    norms[[40, 41, 90, 150]] = 3, 1.5, 100, 2
    clip = ClipZScore(2.5)
    got = norms_after(clip, norms)
    np.testing.assert_allclose(got, zclip(norms, 2.5), rtol=1e-12)
    assert got[40] < got[41] < 1.4 and got[90] < 1.05  # the further out, the further down
    assert clip.n_clipped == np.count_nonzero(got < norms * (1 - 1e-12)) >= 4


def test_the_first_steps_and_those_that_are_not_finite_are_left_as_they_are():
    clip = ClipZScore(1.0)
    norms = [1.0, 1e6, *[1.0] * (N_FIRST - 2)]
    np.testing.assert_allclose(norms_after(clip, norms), norms)
    kept = clip.state_dict()
    assert np.isinf(norms_after(clip, [np.inf])[0])
    assert {k: v.item() for k, v in clip.state_dict().items()} == {k: v.item() for k, v in kept.items()}


def test_the_state_carries_the_statistics_to_the_bit(rng):
    norms = 1 + rng.standard_normal(80) ** 2
    whole, first, second = ClipZScore(2.0), ClipZScore(2.0), ClipZScore(2.0)
    expected = norms_after(whole, norms)
    norms_after(first, norms[:37])
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(norms_after(second, norms[37:]), expected[37:])


def test_units_are_clipped_against_their_weights(rng):
    net = mlp(5, [4, 3], 2, "tanh", dtype="float64", seed=1).bind(6)
    limit = 0.05
    optimizer = sgd(1.0, clip_units=limit).bind(net.parameters)
    net.cost(rng.standard_normal((6, 5)), rng.integers(0, 2, 6))
    net.backward()
    before = {p.name: p.grad.copy() for p in net.parameters}
    optimizer.propose()
    for name, step in net.parameters.views(optimizer.u * -optimizer.factor).items():
        w, g = net.parameters[name].value, before[name]
        if name.startswith("layer_03"):
            expected = g
        elif name.endswith("W"):
            expected = np.array([c * min(1, limit * max(np.linalg.norm(v), MIN_NORM) / np.linalg.norm(c))
                                 for c, v in zip(g.T, w.T, strict=True)]).T  # fmt: skip
        else:
            expected = g * min(1, limit * max(np.linalg.norm(w), MIN_NORM) / np.linalg.norm(g))
        np.testing.assert_allclose(step, expected, rtol=1e-12)
    assert 0 < next(t for t in optimizer.chain if isinstance(t, ClipUnits)).clipped_share <= 1


def test_a_gradient_of_zero_and_one_that_is_not_finite_pass():
    net = mlp(2, [2], 2, dtype="float64", seed=0).bind(1)
    clip = ClipUnits(0.1)
    clip.parameters = net.parameters
    clip.bind(net.parameters)
    u = np.zeros_like(net.parameters.theta)
    assert not clip(u, 1.0)[0].any() and clip.clipped_share == 0
    u[:] = np.nan
    assert np.isnan(clip(u, 1.0)[0]).all()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"clip_units": 0.0}, "optimizer.clip_units must be positive and finite, got 0.0"),
        ({"clip_zscore": -1.0}, "optimizer.clip_zscore must be positive"),
        (
            {"clip_zscore": 2.5, "clip_norm": 1.0},
            "optimizer.clip_zscore must be null beside optimizer.clip_norm, got 2.5",
        ),
    ],
)
def test_limits_out_of_range_are_said(keys, said):
    with pytest.raises(ValueError, match=said):
        sgd(0.1, **keys)
