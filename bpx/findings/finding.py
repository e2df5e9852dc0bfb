"""The finding: verdict, factor per layer, theory's factor, cause and remedy, in one sentence."""

from __future__ import annotations

import base64
import html
import io
import math
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, final

import numpy as np

from bpx.engine.activations import ActivationFunction
from bpx.findings.observation import Observation
from bpx.probes.scales import SATURATED
from bpx.theory import Architecture, Prediction, alternatives, verdict
from bpx.theory.gaussian import dphi, rule

SATURATION_BEYOND = 0.25  # above what signals of unit scale show
_NAMES = {"dense": "weights", "norm": "normalization", "residual": "shortcuts"}
_WORDS = {"vanishing": "vanish", "exploding": "explode", "healthy": "are healthy"}


@final
@dataclass(frozen=True)
class Finding:
    """What the gradients of a network do.

    ``verdict`` by the rule of a decade between the first and the last hidden layer; ``slope`` in decades per layer,
    signed backward, ``factor`` = 10**slope; ``ratio`` first over last; ``residual`` of the fit in decades, and its
    ``worst_layer``; ``forward_slope`` of log10 of the activations' RMS, going forward; ``predicted_slope`` theory's
    (None, with ``reason``, where it has no answer), with its 95 % band; ``cause``: weights, activation,
    normalization, dropout or saturation, empty for healthy; ``gains``: factor per layer of each kind of operation;
    ``remedies``: (override, predicted factor per layer), best first; ``figure``: the profile, where one was drawn.
    """

    verdict: str
    hidden: int
    slope: float | None
    ratio: float | None
    residual: float | None
    worst_layer: str | None
    worst_by: float | None
    zero_layers: tuple[str, ...]
    forward_slope: float | None
    predicted_slope: float | None
    predicted_low: float | None
    predicted_high: float | None
    reason: str | None
    cause: str
    gains: dict[str, float]
    saturation: float | None
    remedies: tuple[tuple[str, float], ...]
    sentence: str = ""
    figure: Any = field(default=None, compare=False, repr=False)

    @property
    def factor(self) -> float | None:
        """Factor of delta_rms per layer, going backward."""
        return None if self.slope is None else 10**self.slope

    @property
    def predicted_factor(self) -> float | None:
        """Theory's factor per layer."""
        return None if self.predicted_slope is None else 10**self.predicted_slope

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        """Show the sentence and the profile in a notebook."""
        text = f"<p>{html.escape(self.sentence)}</p>"
        if self.figure is None:
            return text
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return f'{text}<img alt="profile" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON, the two factors included."""
        plain = asdict(replace(self, figure=None))
        del plain["figure"]
        return plain | {"factor": self.factor, "predicted_factor": self.predicted_factor}

    def metrics(self) -> dict[str, float]:
        """Return what a tracker keeps of it, by the names of metrics."""
        names = ("slope", "ratio", "forward_slope", "predicted_slope")
        known = {name: getattr(self, name) for name in names}
        found = {f"gradient_flow/{key}": value for key, value in known.items() if value is not None}
        return found | ({"gradient_flow/abs_slope": abs(self.slope)} if self.slope is not None else {})


def find(seen: Observation, net: Architecture | None, q1: float, prediction: Prediction) -> Finding:
    """Judge what was ``seen`` in one pass, beside the ``prediction`` for the network ``net`` started at ``q1``."""
    L, line = len(seen.delta_rms), seen.flow
    nothing = bool(L and seen.finite and not (seen.delta_rms > 0).all())
    if line is not None:
        spoken: str = verdict(line.slope, L)
    else:
        spoken = "vanishing" if nothing and L >= 3 else "undetermined"
    cause = _cause(spoken, seen, net)
    remedies: tuple[tuple[str, float], ...] = ()
    if cause and net is not None:
        remedies = _remedies(net, q1, L)
    fitted = line is not None and math.isfinite(line.slope)
    zeros = tuple(f"layer_{i + 1:02d}" for i in np.flatnonzero(seen.delta_rms == 0))
    finding = Finding(
        verdict=spoken,
        hidden=L,
        slope=line.slope if line is not None and fitted else None,
        ratio=line.ratio if line is not None else None,
        residual=line.residual if line is not None and fitted else None,
        worst_layer=f"layer_{line.worst:02d}" if line is not None else None,
        worst_by=line.worst_by if line is not None and fitted else None,
        zero_layers=zeros,
        forward_slope=seen.forward_slope,
        predicted_slope=prediction.slope,
        predicted_low=prediction.slope_low,
        predicted_high=prediction.slope_high,
        reason=prediction.reason,
        cause=cause,
        gains={_NAMES.get(kind, kind): 10**log for kind, log in seen.gains.items()},
        saturation=None if math.isnan(seen.saturation) else seen.saturation,
        remedies=remedies,
    )
    return replace(finding, sentence=sentence(finding, seen))


def _cause(spoken: str, seen: Observation, net: Architecture | None) -> str:
    """Name the kind of operation that loses (or adds) most.

    A normalization undoes the scale of the weights before it, so the two are one where there is a normalization.
    """
    if spoken not in ("vanishing", "exploding"):
        return ""
    if seen.stop is not None:
        kind = seen.stop[1]
        return "saturation" if kind == "activation" else _NAMES.get(kind, kind)
    parts = dict(seen.gains)
    if "norm" in parts:
        parts["norm"] += parts.pop("dense", 0.0)
    if not parts:
        return ""
    worst = (min if spoken == "vanishing" else max)(parts, key=lambda kind: parts[kind])
    if (
        worst == "activation"
        and net is not None
        and seen.saturation > usual_saturation(net.activation) + SATURATION_BEYOND
    ):
        return "saturation"
    return _NAMES.get(worst, worst)


@lru_cache(maxsize=64)
def usual_saturation(function: ActivationFunction) -> float:
    """Return the share of z ~ N(0, 1) with |phi'(z)| below 5 % of the largest |phi'|: 1/2 for ReLU, 0 for tanh."""
    z, _, w = rule(1.0, function.kinks)
    return float(w @ (np.abs(dphi(function, z)) < SATURATED * function.steepest))


def _remedies(net: Architecture, q1: float, L: int) -> tuple[tuple[str, float], ...]:
    """Return an initializer and another change for which theory predicts a healthy net.

    Of the initializers the one nearest to 1; of the others a normalization rather than shortcuts, and these
    rather than another activation.
    """
    sound = [
        (override, factor)
        for override, factor in alternatives(net, q1)
        if override != "activation=linear" and verdict(math.log10(factor), L) == "healthy"
    ]
    groups = ("normalization", "model", "activation")
    initializers = [pair for pair in sound if pair[0].startswith("initializer")]
    others = sorted((p for p in sound if p not in initializers), key=lambda p: groups.index(p[0].partition("=")[0]))
    return tuple([*initializers[:1], *others[:1]])


def sentence(f: Finding, seen: Observation) -> str:
    """Say the finding in one sentence."""
    if not seen.finite:
        return "Undetermined: the first backward pass is not finite."
    if f.verdict == "undetermined":
        if f.hidden < 3:
            measured = f" (measured ×{_x(f.factor)} per layer)" if f.factor is not None else ""
            return f"Undetermined: a verdict needs three hidden layers, this network has {f.hidden}{measured}."
        return "Undetermined: delta cannot be followed through the hidden layers."
    if f.zero_layers:
        return f"Gradients vanish: {_zeros(f, seen)}{_trial(f)}."
    assert f.factor is not None and f.ratio is not None
    text = (
        f"Gradients {_WORDS[f.verdict]}: going backward delta changes ×{_x(f.factor)} per layer, "
        f"first over last of {f.hidden} hidden layers {f.ratio:.2g}; {_theory(f)}"
    )
    if f.cause:
        gains = ", ".join(f"{kind} ×{_x(gain)}" for kind, gain in f.gains.items())
        share = f", {100 * f.saturation:.0f} % saturated" if f.saturation is not None else ""
        text += f"; the cause is {_article(f.cause)}{f.cause} (per layer {gains}{share}){_trial(f)}"
    return text + "."


def _zeros(f: Finding, seen: Observation) -> str:
    where = f.zero_layers[0] if len(f.zero_layers) == 1 else f"{f.zero_layers[0]} to {f.zero_layers[-1]}"
    text = f"delta is exactly zero in {where} of {f.hidden} hidden layers"
    if seen.stop is not None:
        layer, kind = seen.stop
        text += f", lost in the {_NAMES.get(kind, kind)} of {layer}"
    positive = seen.delta_rms[seen.delta_rms > 0]
    if positive.size and positive.min() < 1e-30:
        text += " because it is smaller than any float32 (dtype=float64 shows more)"
    return text + f"; {_theory(f)}"


def _theory(f: Finding) -> str:
    if f.predicted_slope is None or f.predicted_factor is None:
        return f"theory has no prediction: {f.reason}"
    text = f"theory predicts ×{_x(f.predicted_factor)}"
    if f.slope is None or f.predicted_low is None or f.predicted_high is None or f.predicted_low == f.predicted_high:
        return text
    inside = f.predicted_low <= f.slope <= f.predicted_high
    return text + (" (measured within its 95 % band)" if inside else " (measured outside its 95 % band)")


def _trial(f: Finding) -> str:
    if not f.remedies:
        return ""
    return "; " + " or ".join(f"with {o} theory predicts ×{_x(factor)} per layer" for o, factor in f.remedies)


def _article(cause: str) -> str:
    return "" if cause in ("saturation", "dropout") else "the "


def _x(factor: float) -> str:
    return f"{factor:.3f}" if 0.1 <= factor < 1000 else f"{factor:.2e}"
