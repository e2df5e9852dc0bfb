"""python -m bpx.gradcheck +experiment=NAME: the gradient of any composed network against central differences."""

from __future__ import annotations

from pathlib import Path

from bpx.system.interrupts import end_without_traceback
from bpx.system.run_files import OUTPUTS

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

import numpy as np
from omegaconf import DictConfig

from bpx.cli.command import command, exit_process, terminal
from bpx.config.plan import make_plan, spawn_rngs
from bpx.engine import GradientCheck, Network, TensorCheck, gradcheck
from bpx.engine.arrays import Array
from bpx.probes import trace
from bpx.system.errors import UserError
from bpx.system.text import counted

FOLDER = OUTPUTS / "gradcheck"
ROWS, ENTRIES = 32, 100  # samples, and entries of each tensor, at most: enough for any wrong formula
MAX_MAGNITUDE = 1e140  # of what a step passes on: norms square it


@command
def main(config: DictConfig) -> int:
    """Check the gradient of the configured network in float64; return 1 if a derivative is wrong."""
    from bpx.runs.networks import build_network
    from bpx.runs.outputs import run_directory

    config.dtype = "float64"  # float32 has too few digits to take differences
    plan = make_plan(config)
    rngs = spawn_rngs(plan.settings.seed)
    data = plan.load()
    net = build_network(plan, data, rngs)
    rows = min(ROWS, net.batch)
    x, y = data.x_train[:rows], data.y_train[:rows]
    check_magnitudes(net, x, y)
    try:
        check = gradcheck(net, x, y, entries=ENTRIES)
    except ValueError as error:
        raise UserError(str(error)) from error
    directory = run_directory(FOLDER)
    picture = draw(check, directory, f"{data.name}, {counted(rows, 'sample')}")
    report(check, picture)
    return 0 if check.passed else 1


def check_magnitudes(net: Network, x: Array, y: Array) -> None:
    """Raise UserError, naming the first, if a step on (x, y) makes values not finite or too large to square."""
    replica = net.replica(len(x))
    with np.errstate(all="ignore"):
        cost = replica.cost(x, y)
        replica.backward()
    values = [
        np.array([cost]),
        replica.parameters.grad,
        *(v for layer in replica.layers() for v in (layer.y, layer.dx)),
    ]
    if not all(np.isfinite(v).all() for v in values):
        raise UserError(f"nothing can be checked: {trace(replica, None, 0, cost, backward=True)}")
    largest = max(float(np.abs(v).max(initial=0.0)) for v in values)
    if largest > MAX_MAGNITUDE:
        raise UserError(
            f"nothing can be checked: a step makes values up to {largest:.3g}, and float64 cannot hold their squares"
        )


def draw(check: GradientCheck, directory: Path, name: str) -> Path:
    """Save the check in ``gradcheck.npz``, draw it, and return the path of the figure."""
    from bpx.figures.canvas import save
    from bpx.figures.gradient_check import gradient_check, read

    path = directory / "gradcheck.npz"
    np.savez(
        path,
        name=name,
        relative=check.relative,
        tensors=np.array([t.name for t in check.tensors]),
        lengths=np.array([len(t.analytic) for t in check.tensors]),
        tensor_relative=np.array([np.nan if t.relative is None else t.relative for t in check.tensors]),
        tensor_tolerance=np.array([t.tolerance for t in check.tensors]),
        analytic=np.concatenate([t.analytic for t in check.tensors]),
        numeric=np.concatenate([t.numeric for t in check.tensors]),
    )
    return save(gradient_check(read(path)), directory / "gradcheck.png")


def report(check: GradientCheck, picture: Path) -> None:
    """Print every tensor, the worst entry, the layers whose backward is wrong, and the verdict."""
    from rich.table import Table

    out = terminal().print
    table = Table(title="gradient check", title_justify="left")
    table.add_column("tensor", min_width=max(len(t.name) for t in check.tensors), no_wrap=True)
    for column in ("entries", "at a kink", "relative difference", "worst entry", "off by"):
        table.add_column(column, justify="right")
    for t in check.tensors:
        table.add_row(t.name, str(t.entries), str(t.kinks), relative(t), entry(t), f"{t.error:.1e}")
    out(table)
    if any(t.relative is None for t in check.tensors):
        out("round-off: the gradient is below what differences of the cost can resolve, nothing can be said")
    below = f"correct below {check.tolerance:.1e}"
    out(f"whole     {check.relative:.2e} ({below}), along directions {check.directional:.2e}")
    worst = check.worst
    out(f"worst     {entry(worst, full=True)}, tensor at {relative(worst)} (correct below {worst.tolerance:.1e})")
    wrong = [layer for layer in check.layers if not layer.passed]
    if wrong:
        for layer in wrong:
            out(f"wrong     backward of {layer.name}: off by {layer.relative:.1e} of its gradient", style="bold red")
    elif not check.passed:
        names = ", ".join(t.name for t in check.tensors if not t.passed)
        out(f"wrong     {names}; every layer passes the gradient on as it should", style="bold red")
    out(f"figure    {picture}")
    text, color = verdict(check)
    out(text, style=f"bold {color}")


def verdict(check: GradientCheck) -> tuple[str, str]:
    """Return the verdict of the check, with the number of tensors measured, and its color."""
    if not check.passed:
        return "the gradient is WRONG", "red"
    n, unseen = len(check.tensors), sum(t.relative is None for t in check.tensors)
    if not unseen:
        return "the gradient is correct", "green"
    measured = f"{n - unseen} of {n} tensors, {unseen} below round-off"
    if unseen == n:
        return f"the gradient cannot be measured: {measured}", "yellow"
    return f"the gradient is correct where it can be measured: {measured}", "green"


def relative(t: TensorCheck) -> str:
    """Return a tensor's relative difference as text."""
    if t.relative is None:
        return "round-off"
    return f"{t.relative:.2e}" + ("" if t.passed else " wrong")


def entry(t: TensorCheck, full: bool = False) -> str:
    """Return the worst entry, with the tensor's name if ``full``."""
    return f"{t.name if full else ''}[{', '.join(map(str, t.worst))}]"


if __name__ == "__main__":
    exit_process(main())
