"""The finding: verdict, factor per layer, theory's factor, cause and remedies."""

from __future__ import annotations

import base64
import html
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

from bpx.diagnosis.remedies import Remedy
from bpx.engine.numbers import power
from bpx.engine.parts import Json
from bpx.theory import Verdict

if TYPE_CHECKING:
    from bpx.figures.canvas import Picture


@final
@dataclass(frozen=True)
class Finding:
    """What the gradients of a network do, why, and what would change it.

    Slopes are decades per layer, signed going backward, from output to input; factors are 10**slope.

    Attributes
    ----------
    verdict : Verdict
        exploding, vanishing, healthy or undetermined, by the rule of a decade between first and last hidden layer.
    n_hidden : int
        Number of hidden layers.
    slope : float or None
        Slope of log10 of delta; None where delta is exactly zero somewhere.
    ratio : float or None
        delta of the first hidden layer over that of the last.
    residual : float or None
        Root mean square distance from the line, in decades.
    worst_layer, worst_residual
        The layer farthest from the line, and its distance in decades.
    zero_layers : tuple of str
        Layers whose delta is exactly zero.
    forward_slope : float or None
        Slope of log10 of the activations' RMS, signed going forward.
    predicted_slope, predicted_low, predicted_high : float or None
        Theory's slope and its 95 % band.
    reason : str or None
        Why theory has no answer, where it has none.
    cause : str
        The part whose removal alone brings the factor nearest to 1: weights, dropout, normalization, shortcuts or
        inputs, several joined by "and"; symmetry where all weights of a layer are equal; empty where nothing helps.
    trials : dict of str to float
        Factor per layer with each part taken out alone.
    gains : dict of str to float
        Factor per layer of each kind of operation between the first and the last hidden delta.
    weights_gain, needed_gain : float or None
        What the hidden weights do to the length of delta per layer, and what the activation needs of them; None where
        the gradients neither vanish nor explode.
    saturation : float or None
        Share of (sample, unit) with a slope below 5 % of the largest, mean over the hidden layers.
    remedies : tuple of Remedy
        Changes that make it healthy: ``change``, ``factor`` (median of the networks drawn with it), ``command``.
    caveat : str
        Why theory's band does not hold here, empty where it does.
    verdict_time : Verdict or None
        The verdict on the gradient through time of the last recurrent layer; None where there is none.
    time_slope, time_ratio, predicted_time_slope : float or None
        Its slope in decades a step, signed going backward; the first step's over the last one's; theory's slope.
    predicted_time_low, predicted_time_high : float or None
        Theory's 95 % band for it.
    cause_time : str
        The part whose change alone brings the factor per step nearest to 1: recurrent weights, activation or gates.
    remedies_time : tuple of Remedy
        Changes that make the gradient through time healthy.
    because : str
        The cause in words.
    facts : tuple of str
        What has to be known beside it: inputs that carry nothing, equal weights, saturation.
    sentence : str
        All of it in words.
    figure
        The profile by layer, where one was drawn.
    """

    verdict: Verdict
    n_hidden: int
    slope: float | None = None
    ratio: float | None = None
    residual: float | None = None
    worst_layer: str | None = None
    worst_residual: float | None = None
    zero_layers: tuple[str, ...] = ()
    forward_slope: float | None = None
    predicted_slope: float | None = None
    predicted_low: float | None = None
    predicted_high: float | None = None
    reason: str | None = None
    cause: str = ""
    trials: dict[str, float] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    weights_gain: float | None = None
    needed_gain: float | None = None
    saturation: float | None = None
    remedies: tuple[Remedy, ...] = ()
    caveat: str = ""
    verdict_time: Verdict | None = None
    time_slope: float | None = None
    time_ratio: float | None = None
    predicted_time_slope: float | None = None
    predicted_time_low: float | None = None
    predicted_time_high: float | None = None
    cause_time: str = ""
    remedies_time: tuple[Remedy, ...] = ()
    because: str = ""
    facts: tuple[str, ...] = ()
    sentence: str = ""
    figure: Picture | None = field(default=None, compare=False, repr=False)

    @property
    def factor(self) -> float | None:
        """Factor of ||delta||_2 per layer, going backward."""
        return None if self.slope is None else power(10, self.slope)

    @property
    def predicted_factor(self) -> float | None:
        """Theory's factor per layer."""
        return None if self.predicted_slope is None else power(10, self.predicted_slope)

    def __str__(self) -> str:
        return self.sentence

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the sentence in IPython."""
        printer.text(self.sentence)

    def _repr_html_(self) -> str:
        """Show the sentence and the profile in a notebook."""
        text = f"<p>{html.escape(self.sentence)}</p>"
        if self.figure is None:
            return text
        picture = base64.b64encode(self.figure._repr_png_()).decode()
        return f'{text}<img alt="profile" src="data:image/png;base64,{picture}">'

    def as_dict(self) -> Json:
        """Return everything as plain JSON, the two factors included."""
        plain = asdict(replace(self, figure=None))
        del plain["figure"]
        return plain | {"factor": self.factor, "predicted_factor": self.predicted_factor}

    @staticmethod
    def from_dict(found: Json) -> Finding:
        """Return the finding that ``as_dict`` described; raises TypeError or ValueError where it is none."""
        own = {key: value for key, value in found.items() if key not in ("factor", "predicted_factor")}
        own["verdict"] = Verdict(own["verdict"])
        own["verdict_time"] = Verdict(own["verdict_time"]) if own.get("verdict_time") else None
        own["zero_layers"] = tuple(own["zero_layers"])
        own["facts"] = tuple(own["facts"])
        for key in ("remedies", "remedies_time"):
            own[key] = tuple(Remedy(*remedy) for remedy in own.get(key, ()))
        return Finding(**own)

    def metrics(self) -> dict[str, float]:
        """Return what a tracker keeps of it, by the names of metrics."""
        over_time = ("time_slope", "time_ratio", "predicted_time_slope")
        names = ("slope", "factor", "ratio", "forward_slope", "predicted_slope", *over_time)
        known = {name: getattr(self, name) for name in names}
        known["zero_layers"] = len(self.zero_layers)
        found = {f"gradient_flow/{key}": value for key, value in known.items() if value is not None}
        return found | ({"gradient_flow/abs_slope": abs(self.slope)} if self.slope is not None else {})
