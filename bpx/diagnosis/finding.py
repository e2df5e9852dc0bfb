"""The finding: verdict, factor per layer, theory's factor, cause and remedies."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

from bpx.engine.numbers import power


@final
@dataclass(frozen=True)
class Finding:
    """What the gradients of a network do.

    ``verdict`` by the rule of a decade between the first and the last hidden layer; ``slope`` in decades per layer,
    signed backward, ``factor`` = 10**slope; ``ratio`` first over last; ``residual`` of the fit in decades, and its
    ``worst_layer``; ``forward_slope`` of log10 of the activations' RMS, going forward; ``predicted_slope`` theory's
    (None, with ``reason``, where it has no answer), with its 95 % band (``rough``: why it does not hold, empty where it
    does); ``cause``: weights, activation, normalization, dropout or saturation, empty for healthy; ``gains``: factor
    per layer of each kind of operation; ``remedies``: (override, predicted factor per layer), best first; ``figure``:
    the profile, where one was drawn.
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
    rough: str = ""
    sentence: str = ""
    figure: Any = field(default=None, compare=False, repr=False)

    @staticmethod
    def undetermined(hidden: int, sentence: str) -> Finding:
        """Return the finding of a network in which nothing could be measured."""
        return Finding(
            verdict="undetermined",
            hidden=hidden,
            slope=None,
            ratio=None,
            residual=None,
            worst_layer=None,
            worst_by=None,
            zero_layers=(),
            forward_slope=None,
            predicted_slope=None,
            predicted_low=None,
            predicted_high=None,
            reason=None,
            cause="",
            gains={},
            saturation=None,
            remedies=(),
            sentence=sentence,
        )

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

    @staticmethod
    def from_dict(found: dict[str, Any]) -> Finding:
        """Return the finding that ``as_dict`` described; raises TypeError where it is none."""
        own = {key: value for key, value in found.items() if key not in ("factor", "predicted_factor")}
        own["zero_layers"] = tuple(own["zero_layers"])
        own["remedies"] = tuple((override, factor) for override, factor in own["remedies"])
        return Finding(**own)

    def metrics(self) -> dict[str, float]:
        """Return what a tracker keeps of it, by the names of metrics."""
        names = ("slope", "ratio", "forward_slope", "predicted_slope")
        known = {name: getattr(self, name) for name in names}
        known["zero_layers"] = len(self.zero_layers)
        found = {f"gradient_flow/{key}": value for key, value in known.items() if value is not None}
        return found | ({"gradient_flow/abs_slope": abs(self.slope)} if self.slope is not None else {})
