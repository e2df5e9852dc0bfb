"""A built network as theory sees it, and what theory predicts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from bpx.engine.activation import Activation, ActivationFunction
from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.layer import Layer, flat, rows
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.pooling import MeanPositions
from bpx.engine.residual import Residual
from bpx.engine.scale import Scale
from bpx.theory import Architecture, Ends, Prediction, predict

MAX_PAIRED_SAMPLES = 256  # samples that are compared pair by pair, at most
_MEAN_THRESHOLD = 6.0  # standard errors that the mean of drawn weights may be off zero
_KURTOSIS_THRESHOLD = 10.0  # kurtosis of weights that are mostly zero; a normal has 3, a uniform 1.8
_ORTHOGONALITY_TOLERANCE = 1e-3


def architecture(net: Network, batch: int) -> Architecture | None:
    """Return ``net`` as theory sees it, the weights' scale measured; None where it is no net that theory knows.

    Weights that are constant, or zero but for a diagonal, are not random: their ``weight_std`` is None.
    """
    layers = list(net.layers())
    functions = activation_functions(net)
    norms = {layer.theory_name for layer in layers if isinstance(layer, Normalization)}
    if len(functions) != 1 or len(norms) > 1:
        return None
    matrices = [np.asarray(dense.W.value, np.float64) for dense in net.dense]
    rates = {layer.rate for layer in layers if isinstance(layer, Dropout)}
    biases = [np.asarray(d.b.value, np.float64) for d in net.dense[:-1] if d.b is not None]
    return Architecture(
        activation=next(iter(functions)),
        fans=(net.dense[0].n_in, *(dense.n_out for dense in net.dense)),
        weight_std=tuple(map(_rms, matrices)) if all(map(drawn_at_random, matrices)) else None,
        bias_std=math.sqrt(float(np.mean(np.concatenate(biases) ** 2))) if biases else 0.0,
        keep_prob=1 - max(rates, default=0.0),
        normalization=next(iter(norms), "none"),
        residual=any(isinstance(layer, Residual) for layer in layers),
        batch_size=batch,
        orthogonal=all(map(orthogonal, matrices[1:-1])) and len(matrices) > 2,
        branch_scale=branch_scale(layers),
        fan_in=fan_in(net),
        overlaps=tuple(dense.overlaps() for dense in net.dense[:-1]),
    )


def fan_in(net: Network) -> tuple[int, ...]:
    """Return the inputs of a unit of every weight layer, empty where they are the widths of the layers before."""
    widths = [dense.n_out for dense in net.dense]
    inputs = tuple(dense.n_in for dense in net.dense)
    return () if list(inputs[1:]) == widths[:-1] else inputs


def branch_scale(layers: Iterable[Layer]) -> float:
    """Return what the residual branches are multiplied by, their root mean square."""
    squares = [layer.value**2 for layer in layers if isinstance(layer, Scale)]
    return math.sqrt(sum(squares) / len(squares)) if squares else 1.0


def unanswered(net: Network) -> str:
    """Return what of ``net`` theory has no answer for, empty where it has one."""
    layers = list(net.layers())
    weights = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
    between = layers[weights[0] : weights[-2]] if len(weights) > 1 else []
    if gaps := [layer.unpredicted for layer in between if layer.unpredicted]:
        return gaps[0]
    blocks = [block for block in net.blocks if isinstance(block, Residual)]
    if blocks and any(isinstance(block, Normalization) for block in net.blocks[: net.blocks.index(blocks[-1])]):
        return "a normalization after the addition"
    if any(sum(isinstance(layer, Dense) for layer in block.layers()) > 1 for block in blocks):
        return "residual branches of several layers"
    return ""


def activation_functions(net: Network) -> set[ActivationFunction]:
    """Return the activation functions of ``net``."""
    return {layer.function for layer in net.layers() if isinstance(layer, Activation)}


def first_variance(net: Network) -> float:
    """Return the variance of the first pre-activation that a forward pass has left: E[z**2].

    With batch normalization, the variance over the batch, mean over the units.
    """
    normalized = any(isinstance(layer, Normalization) and layer.acts_like == "batch" for layer in net.layers())
    return mean_variance(net.dense[0].y, over_batch=normalized)


def mean_variance(z: Array, *, over_batch: bool) -> float:
    """Return E[z**2] of ``z`` (batch, n), or the variance over the batch, mean over the units."""
    z = rows(np.asarray(z, np.float64))
    return float(z.var(axis=0, ddof=min(len(z) - 1, 1)).mean() if over_batch else np.mean(z * z))


def network_ends(net: Network) -> Ends:
    """Return what a pass forward and backward has left at both ends of ``net``."""
    last = net.dense[-1]
    bias = 0.0 if last.b is None else last.b.value
    std = _rms(np.asarray(last.W.value, np.float64))
    return pass_ends(net.dense[0].y, last.x, last.y - bias, net.loss.dx, std, last_activations(net))


def last_activations(net: Network) -> Array:
    """Return the activations of the last hidden layer, (batch, n) or (batch, *positions, n) before their mean."""
    layers = list(net.layers())
    mean = [layer for layer in layers[layers.index(net.dense[-1]) - 1 :] if isinstance(layer, MeanPositions)]
    return mean[0].x if mean else net.dense[-1].x


def pass_ends(
    z: Array, a: Array, out: Array, delta: Array, weight_std: float, activations: Array | None = None
) -> Ends:
    """Return what a pass shows at both ends of a network.

    Parameters
    ----------
    z : ndarray (batch, n) or (batch, *positions, n)
        The first pre-activation.
    a, out, delta : ndarray (batch, n), (batch, n_out), (batch, n_out)
        Input of the output layer, its output without the bias, and its delta at any scale.
    weight_std : float
        Root mean square of the output layer's weights.
    activations : ndarray (batch, *positions, n), optional
        Those of the last hidden layer where ``a`` is their mean over the positions.
    """
    last = a if activations is None else activations
    z, a, out, delta, last = (flat(np.asarray(v, np.float64)[:MAX_PAIRED_SAMPLES]) for v in (z, a, out, delta, last))
    with np.errstate(all="ignore"):
        delta = delta / np.abs(delta).max(initial=0.0)
        lengths = np.einsum("ij,ij->i", delta, delta)
        gram = delta @ delta.T
        pairs = lengths.sum() ** 2 - (lengths * lengths).sum()
        spread = weight_std**2 * np.einsum("ij,ij->i", a, a)
        kappa = float((np.einsum("ij,ij->i", out, delta) ** 2 / spread).sum() / lengths.sum())
        uneven = float(len(z) * (lengths * lengths).sum() / lengths.sum() ** 2)
        alike = float(((gram * gram).sum() - (lengths * lengths).sum()) / pairs)
        z = z / np.abs(z).max(initial=0.0)
        squares = np.einsum("ij,ij->i", z, z)
        length_variance = float(np.log(squares).var())
        unit = z / np.sqrt(squares)[:, None]
        pairwise = (unit @ unit.T)[np.triu_indices(len(z), 1)]
        centred = z - z.mean(axis=0)
        covariance = centred @ centred.T
        length = float(np.mean(last * last))
        rank = float(np.trace(covariance) ** 2 / (covariance * covariance).sum())
    found = {"kappa": kappa, "alike": alike, "uneven": uneven, "rank": rank, "length_variance": length_variance}
    found["length"] = length
    if len(pairwise):
        found |= {"correlation": float(pairwise.mean()), "correlation_variance": float(pairwise.var())}
    return Ends(**{key: value for key, value in found.items() if math.isfinite(value)})


def predict_network(net: Network, *, band: bool = True) -> tuple[Architecture | None, float, Prediction]:
    """Return ``net`` as theory sees it, the variance q1 that it starts from, and the prediction.

    ``net`` has made a pass forward and backward; the weights are taken as drawn at random.
    """
    known, q1 = architecture(net, len(net.dense[0].y)), first_variance(net)
    what = unanswered(net)
    if known is None:
        return None, q1, Prediction(reason=f"theory has no answer for {what or 'layers of several kinds'}")
    if what:
        return known, q1, Prediction(reason=f"theory has no answer for {what}")
    if not math.isfinite(q1):
        return known, q1, Prediction(reason="the first pre-activation is not finite")
    return known, q1, predict(known, q1, band=band, ends=network_ends(net))


def _rms(W: Array) -> float:
    return norm(W.reshape(-1)) / math.sqrt(W.size)


def drawn_at_random(W: Array) -> bool:
    """Return whether the entries of ``W`` may be independent draws around zero: no constant, no diagonal."""
    W = np.asarray(W, np.float64)
    largest = float(np.abs(W).max())
    if not (0 < largest < math.inf):
        return False
    W = W / largest
    squares = W * W
    square = float(squares.mean())
    stray = abs(float(W.mean())) * math.sqrt(W.size / square)
    fourth = float(np.mean(squares * squares))  # W**4 is a hundred times slower
    return W.size < 16 or (stray < _MEAN_THRESHOLD and fourth / (square * square) < _KURTOSIS_THRESHOLD)


def orthogonal(W: Array) -> bool:
    """Return whether the rows or the columns of ``W``, whichever are fewer, are orthogonal and of one length."""
    W = np.asarray(W, np.float64)
    gram = W.T @ W if W.shape[0] >= W.shape[1] else W @ W.T
    scale = float(np.mean(np.diag(gram)))
    return (
        float(np.abs(gram / scale - np.eye(len(gram))).max()) < _ORTHOGONALITY_TOLERANCE
        if scale > 0 and len(gram) > 1
        else False
    )
