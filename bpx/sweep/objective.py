"""Check, before any run starts, that runs log the objectives of a search."""

from __future__ import annotations

import re

from bpx.config.plan import Plan
from bpx.data import SOURCES, Source, SupportsLoad
from bpx.sweep.options import Options
from bpx.system.errors import UserError

MISSING = "hydra.sweeper.objective: this run logs no"
LOGGED = (
    *("accuracy/test", "accuracy/train", "accuracy/val", "cost/test", "cost/train", "cost/val"),
    *(f"gradient_flow/{name}" for name in ("abs_slope", "factor", "forward_slope", "predicted_slope")),
    *(f"gradient_flow/{name}" for name in ("ratio", "slope")),
    "gradient_flow/zero_layers",
    *("lr", "r2/test", "r2/train", "rmse/test", "rmse/train", "time/train_seconds"),
)


def check_objectives(options: Options, sample: Plan) -> None:
    """Raise UserError if no run of ``sample`` can log an objective, as far as known before the data are loaded."""
    validates = _validates(sample.source)
    for name in options.objectives:
        if name.endswith("/val") and name in LOGGED and not validates:
            raise UserError(
                f"{MISSING} {name}, for dataset={getattr(sample.source, 'name', '')} has no validation part: "
                "give dataset.val_size, such as 0.2"
            )
        quantity, _, layer = name.rpartition("/")
        of_a_layer = quantity in sample.tracker.per_layer and re.fullmatch(r"layer_\d{2,}", layer)
        if name not in LOGGED and not of_a_layer:
            known = [metric for metric in LOGGED if validates or not metric.endswith("/val")]
            known += [f"{quantity}/layer_01 …" for quantity in sample.tracker.per_layer]
            raise UserError(f"{MISSING} {name}; it logs {', '.join(known)}")


def _validates(source: SupportsLoad) -> bool:
    """Return whether a source has a validation part; True if only its data can tell."""
    return type(source) not in SOURCES.values() or not isinstance(source, Source) or source.holds_out
