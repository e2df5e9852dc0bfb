"""python -m bpx.theory activation=tanh initializer.sigma_w=1.5: theory's numbers and the phase diagram."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from bpx.cli.command import command, terminal
from bpx.config.architecture import hidden_widths
from bpx.config.plan import EXAMPLE, Plan, make_plan
from bpx.diagnosis.architecture import branch_scale, fan_in, unanswered
from bpx.engine import Activation, Residual
from bpx.engine.initializers import Orthogonal
from bpx.engine.recurrent import Recurrent
from bpx.system.errors import NoAnswerError, UserError
from bpx.system.run_files import OUTPUTS
from bpx.theory import (
    Architecture,
    MeanField,
    Prediction,
    Verdict,
    critical_sigma_w,
    mean_field,
    phase_diagram_around,
    predict,
    slope_verdict,
)

FOLDER = OUTPUTS / "theory"
SAME = 1e-6  # sigma_w of layers that differ by rounding alone
MAX_DEPTH = 100  # up to which a slope is followed
TRAINABLE = 6  # depths up to 6 xi_c train (Schoenholz et al. 2017)


@command
def main(config: DictConfig) -> None:
    """Print theory's prediction for the configured network, and save the phase diagram if it is a plain one."""
    checked = make_plan(config)
    net = architecture(checked)
    console = terminal()
    scales, q1 = sigma_w_by_layer(net)
    sigma_w = scales[-1] if max(scales) < (1 + SAME) * min(scales) else None
    answer = None
    if sigma_w is not None and _plain(net):
        answer = mean_field(net.activation, sigma_w, net.bias_std, keep_prob=net.keep_prob, start=q1)
    console.print(table(net, scales, answer, predict(net, q1)))
    if sigma_w is None:
        console.print("no phase diagram: it is that of one σw, and here the layers have several")
        return
    if answer is None:
        console.print("no phase diagram: the plane of σw and σb is that of nets without normalization and shortcuts")
        return
    if answer.note:
        console.print(answer.note)
    console.print(f"phase diagram: {draw(net, sigma_w)}")


def sigma_w_by_layer(net: Architecture) -> tuple[list[float], float]:
    """Return sigma_w of the weights between hidden layers, and the variance q1 of the first pre-activation.

    Inputs have second moment 1. With one hidden layer sigma_w is that of its own weights.
    """
    assert net.weight_std is not None
    scales = [s * math.sqrt(net.inputs(i)) for i, s in enumerate(net.weight_std)]
    return scales[1:-1] or scales[:1], scales[0] ** 2 + net.bias_variance


def architecture(checked: Plan) -> Architecture:
    """Return the configuration's hidden layers, the input as wide as the first of them; raises UserError."""
    config, initializer = checked.config, checked.initializer
    widths = hidden_widths(config.model)
    if not widths:
        raise UserError("model.depth must be at least 1: theory speaks of hidden layers")
    net = checked.network(widths[0], widths[-1], *EXAMPLE[2:])
    fans = (net.dense[0].n_in, *(dense.n_out for dense in net.dense))
    std = [initializer.weight_std(dense.n_in, dense.n_out) for dense in net.dense]
    if not all(std):
        raise UserError(f"theory has no answer for initializer {initializer.name}: its weights have no random scale")
    layers, norm, hidden = list(net.layers()), checked.normalization, net.dense[:-1]
    recurrent = next((layer.unpredicted for layer in layers if isinstance(layer, Recurrent)), "")
    if what := unanswered(net) or recurrent:
        raise NoAnswerError(f"theory has no answer for {what}")
    return Architecture(
        activation=next(layer.function for layer in layers if isinstance(layer, Activation)),
        fans=fans,
        weight_std=tuple(s for s in std if s is not None),
        bias_std=math.sqrt(sum(initializer.bias_rms(d.n_in, d.n_out) ** 2 for d in hidden) / len(hidden)),
        keep_prob=1 - config.dropout.rate,
        normalization="none" if norm is None else norm.theory_name,
        residual=any(isinstance(layer, Residual) for layer in layers),
        batch_size=checked.settings.batch_size,
        orthogonal=isinstance(initializer, Orthogonal),
        branch_scale=branch_scale(layers),
        fan_in=fan_in(net),
    )


def table(net: Architecture, scales: list[float], answer: MeanField | None, prediction: Prediction) -> Table:
    """Return the numbers as a rich table; ``answer`` is that of infinite depth, where all layers have one sigma_w."""
    out = Table(title=_title(net), show_header=False)
    low, high = min(scales), max(scales)
    one = high < (1 + SAME) * low
    out.add_row(
        "σw, σb",
        f"{scales[-1]:.6g}, {net.bias_std:.6g}" if one else f"{low:.4g} to {high:.4g} by layer, {net.bias_std:.6g}",
    )
    if answer is not None:
        out.add_row("length fixed point q*", "any" if answer.limit == "any" else f"{answer.q_star:.6g}")
        out.add_row("χ₁: factor of ‖δ‖² per layer", f"{answer.chi_1:.6g}")
        out.add_row("ξq: memory of length, layers", _layers(answer.xi_q))
        out.add_row("ξc: memory of correlation, layers", _layers(answer.xi_c))
        out.add_row("trainable depth, 6 ξc", _layers(answer.xi_c, TRAINABLE))
        out.add_row("factor of ‖δ‖ per layer, √χ₁", f"×{math.sqrt(answer.chi_1):.4g}")
        out.add_row("critical σw at this σb", _critical(net))
    depth = len(net.hidden)
    if prediction.slope is None or prediction.slope_low is None or prediction.slope_high is None:
        out.add_row("the net as configured", f"no prediction: {prediction.reason}")
        return out
    if depth == 1:
        out.add_row("slope", "none: there is one hidden layer")
        return out
    out.add_row(
        f"slope, {depth} layers of {_widths(net)} (95 %)",
        f"{prediction.slope:+.4f} ({prediction.slope_low:+.4f} to {prediction.slope_high:+.4f})",
    )
    out.add_row("factor of ‖δ‖ per layer there", f"×{prediction.factor:.4g}")
    out.add_row("verdict", _verdict(prediction))
    if prediction.caveat:
        out.add_row("only roughly", prediction.caveat)
    if prediction.note:
        out.add_row("note", prediction.note)
    return out


def _verdict(prediction: Prediction) -> str:
    """Return the verdict at this depth and, where it is healthy, from which depth on it is not."""
    L, slope = len(prediction.q), prediction.slope
    if prediction.verdict != Verdict.HEALTHY or slope is None or not abs(slope) * (MAX_DEPTH - 1) > 1:
        return prediction.verdict
    deeper = slope_verdict(slope, MAX_DEPTH)
    return f"{prediction.verdict} with {L} layers, {deeper} from {math.floor(1 / abs(slope)) + 2} layers on"


def draw(net: Architecture, sigma_w: float) -> Path:
    """Draw the phase diagram around the network's point, and return the path of the figure."""
    from bpx.figures.canvas import save
    from bpx.figures.phase import phase

    name, sigma_b = net.activation.name, net.bias_std
    figure = phase(
        phase_diagram_around(net.activation, sigma_w, sigma_b, net.keep_prob),
        _title(net),
        f"{name}: where gradients vanish and explode",
        [(f"σw = {sigma_w:.4g}, σb = {sigma_b:.4g}", sigma_w, sigma_b)],
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    return save(figure, FOLDER / f"{name}_w{sigma_w:.4g}_b{sigma_b:.4g}_keep{net.keep_prob:.4g}.png")


def _plain(net: Architecture) -> bool:
    return not net.normalizes and not net.residual


def _title(net: Architecture) -> str:
    parts = [net.activation.name]
    parts += [f"{net.normalization} normalization"] if net.normalizes else []
    parts += [f"dropout {1 - net.keep_prob:g}"] if net.keep_prob < 1 else []
    return ", ".join(parts + (["shortcuts"] if net.residual else []))


def _widths(net: Architecture) -> str:
    if len(set(net.hidden)) == 1:
        return str(net.hidden[0])
    shown = [str(n) for n in net.hidden]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-2:]]) + " units"


def _layers(depth: float | None, times: int = 1) -> str:
    if depth is None:
        return "none: the length has no fixed point"
    return "∞" if math.isinf(depth) else f"{times * depth:.4g}"


def _critical(net: Architecture) -> str:
    try:
        return f"{critical_sigma_w(net.activation, net.bias_std, net.keep_prob):.6g}"
    except ValueError:
        return "none: no stable edge of chaos"
