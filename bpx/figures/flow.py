"""The figures of gradient flow: every one drawn from gradient_flow.parquet alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from bpx.figures.agreement import gradient_agreement
from bpx.figures.canvas import save_all
from bpx.figures.gains import backward_gains
from bpx.figures.histograms import magnitude_histograms
from bpx.figures.jacobian import jacobian_spectrum
from bpx.figures.norms import gradient_norms
from bpx.figures.ntk import tangent_kernel
from bpx.figures.phase import phase_of_run
from bpx.figures.profile import delta_heatmap, layer_profile, time_heatmap
from bpx.figures.units import idle_units
from bpx.figures.updates import update_ratios
from bpx.figures.weights import weight_matrices
from bpx.records import Records, read

FLOW: dict[str, tuple[set[str], Callable[[Records], Figure | None]]] = {  # name: quantities that it needs, function
    "profile": ({"preactivation_rms", "activation_rms", "delta_l2"}, layer_profile),
    "delta_heatmap": ({"delta_l2"}, delta_heatmap),
    "time_heatmap": ({"state_grad_l2"}, time_heatmap),
    "gains": ({"backward_gain"}, backward_gains),
    "gradient_norms": ({"grad_norm", "grad_norm_bias"}, gradient_norms),
    "histograms": ({"activation_histogram", "gradient_histogram"}, magnitude_histograms),
    "update_ratios": ({"update_ratio"}, update_ratios),
    "units": ({"saturation"}, idle_units),
    "jacobian": ({"jacobian_singular_value"}, jacobian_spectrum),
    "agreement": ({"delta_coherence"}, gradient_agreement),
    "ntk": ({"ntk_eigenvalue", "ntk_change"}, tangent_kernel),
    "weights": ({"distance_from_init", "spectral_norm", "stable_rank"}, weight_matrices),
}


def draw_flow(path: str | Path, folder: str | Path, allow: Collection[str] = ()) -> list[Path]:
    """Draw every figure that the record in a Parquet file allows into ``folder`` and return the paths.

    ``allow`` names the modules that may be imported for an activation that is not part of bpx.
    """
    path, folder = Path(path), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return save_all(flow_drawings(read(path), allow), folder)


def flow_figures(records: Records) -> dict[str, Figure]:
    """Return every figure by name; one whose quantities were not recorded is left out."""
    figures = {name: draw() for name, draw in flow_drawings(records).items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def flow_drawings(records: Records, allow: Collection[str] = ()) -> dict[str, Callable[[], Figure | None]]:
    """Return what draws each figure, by name; one whose quantities were not recorded is left out."""
    recorded = records.quantities
    drawings: dict[str, Callable[[], Figure | None]] = {"phase": partial(phase_of_run, records, allow)}
    return {name: partial(draw, records) for name, (needed, draw) in FLOW.items() if needed <= recorded} | drawings
