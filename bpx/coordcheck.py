"""python -m bpx.coordcheck optimizer=adam ...: whether updates keep their size as a network grows wider."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bpx.system.interrupts import end_without_traceback
from bpx.system.run_files import OUTPUTS

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

import numpy as np
from omegaconf import DictConfig

from bpx.cli.command import command, exit_process, terminal
from bpx.config.architecture import hidden_widths
from bpx.config.plan import make_plan, spawn_rngs
from bpx.data import Batches, Dataset
from bpx.engine.arrays import Values
from bpx.engine.initializer import Initializer, Scaled
from bpx.engine.mup import MuP
from bpx.probes import ProbeContext
from bpx.system.errors import UserError

KEYS = ("z", "change")  # what is measured
FOLDER = OUTPUTS / "coordcheck"
WIDTHS = (64, 128, 256, 512, 1024)
STEPS, SEEDS, ROWS = 4, 4, 128  # optimizer steps, draws of the network, samples whose z is measured
WIDE = len(WIDTHS) // 2  # exponents are fitted from this width on: narrow networks have terms of their own
GROWS, SHRINKS = 0.2, -0.25  # exponents beyond which an update grows, or dies out, absolutely and against z


class Coordinates(NamedTuple):
    """Root mean squares over samples and units, (steps + 1, widths, layers): of z, and of its change by training."""

    z: Values
    change: Values


@command
def main(config: DictConfig) -> int:
    """Train the configuration at several widths, as it is and under muP; 1 where its own updates grow."""
    from bpx.figures.canvas import save
    from bpx.figures.coordcheck import coordinate_check
    from bpx.runs.outputs import run_directory

    depth = len(hidden_widths(config.model))
    if depth == 0:
        raise UserError("coordcheck needs hidden layers: model.depth must be at least 1, got 0")
    config.model.hidden, config.model.depth, config.model.width = None, depth, WIDTHS[0]
    plan = make_plan(config)
    data = plan.load()
    own = "mup" if isinstance(plan.initializer, MuP) else "standard"
    measured = {name: measure(configs, data) for name, configs in parametrizations(config, plan.initializer).items()}
    directory = run_directory(FOLDER)
    (z, change), (mup_z, mup_change) = measured["standard"], measured["mup"]
    arrays = {"standard_z": z, "standard_change": change, "mup_z": mup_z, "mup_change": mup_change}
    np.savez(directory / "coordcheck.npz", name=data.name, widths=np.array(WIDTHS), allow_pickle=False, **arrays)
    figure = coordinate_check(data.name, WIDTHS, {name: tuple(of) for name, of in measured.items()})
    return report(measured, own, save(figure, directory / "coordcheck.png"))


def parametrizations(config: DictConfig, initializer: Initializer) -> dict[str, list[DictConfig]]:
    """Return the configurations of every width in the standard parametrization and in muP.

    One of them is ``config``, which has this initializer. muP is the standard one where ``base_width`` is the width.
    """
    from bpx.runs.networks import change

    standard, mup = [], []
    for width in WIDTHS:
        own, other = config.copy(), config.copy()
        own.model.width = other.model.width = width
        if isinstance(initializer, MuP):
            other.initializer.base_width = width
        else:
            other, _ = change(other, "initializer", "mup")
            if isinstance(initializer, Scaled):
                other.initializer.sigma_w = initializer.sigma_w
                other.initializer.gain = None if initializer.sigma_w else initializer.effective_gain
        standard.append(other if isinstance(initializer, MuP) else own)
        mup.append(own if isinstance(initializer, MuP) else other)
    return {"standard": standard, "mup": mup}


def measure(configs: list[DictConfig], data: Dataset) -> Coordinates:
    """Return the coordinates of the first steps of each configuration, geometric means over the seeds."""
    from bpx.runs.networks import build_network

    x = data.x_train[:ROWS]
    logs = []
    for config in configs:
        plan = make_plan(config).decided(data.n_classes is not None, len(data.x_train))
        for seed in range(SEEDS):
            rngs = spawn_rngs(plan.settings.seed + seed)
            net = build_network(plan, data, rngs)
            optimizer = plan.bound_optimizer(STEPS, net)
            batches = iter(Batches(data.x_train, data.y_train, net.batch, rngs["shuffle"]))
            replica = ProbeContext(net).replica(len(x))
            zs = []
            with np.errstate(all="ignore"):
                for step in range(STEPS + 1):
                    if step:
                        net.cost(*next(batches))
                        net.backward()
                        optimizer.propose()
                        optimizer.apply()
                    replica.forward(x, train=True)
                    zs.append([np.array(dense.y, np.float64) for dense in replica.dense])
                logs.append([[(_log_rms(z), _log_rms(z - z0)) for z, z0 in zip(now, zs[0], strict=True)] for now in zs])
    table = np.reshape(logs, (len(configs), SEEDS, STEPS + 1, -1, 2)).mean(axis=1)
    with np.errstate(over="ignore"):
        z, change = np.exp(table).transpose(3, 1, 0, 2)
    return Coordinates(z, change)


def exponent(values: Values) -> float:
    """Return the slope of log(values) against log(width) at the larger widths; -inf for zero, NaN where not finite."""
    values = values[WIDE:]
    if not np.isfinite(values).all():
        return float("nan")
    return float(np.polyfit(np.log(WIDTHS[WIDE:]), np.log(values), 1)[0]) if values.all() else float("-inf")


def report(measured: dict[str, Coordinates], own: str, picture: Path) -> int:
    """Print the exponents by layer and what grows or dies out; return 1 if anything of ``own`` grows."""
    from rich.table import Table

    out = terminal().print
    title = f"growth with the width n, from {WIDTHS[WIDE]} to {WIDTHS[-1]}: z, and its change by {STEPS} steps"
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    columns = [(name, key) for name in measured for key in KEYS]
    for name, key in columns:
        table.add_column(f"{name}: {key}", justify="right")
    n_layers, growing = measured[own].z.shape[2], 0
    layers = [f"layer_{i + 1:02d}" for i in range(n_layers)]
    powers = {(name, key): _exponents(measured[name], key) for name, key in columns}
    for i, layer in enumerate(layers):
        table.add_row(layer, *(_power(powers[column][i]) for column in columns))
    out(table)
    out(f"figure    {picture}")
    for name in measured:
        change, start = powers[name, "change"], powers[name, "z"]
        grow = [f"{layer} {_power(p)}" for layer, p in zip(layers, change, strict=True) if not p <= GROWS]
        die = [
            f"{layer} {_power(p)}"
            for layer, p, z in zip(layers, change, start, strict=True)
            if p < SHRINKS and (p == -np.inf or p - z < SHRINKS)
        ]
        said = [f"updates grow with the width: {', '.join(grow)}"] if grow else []
        said += [f"updates die out: {', '.join(die)}"] if die else []
        color = "red" if grow else "yellow" if die else "green"
        out(f"{name:9s} {'; '.join(said) or 'updates keep their size at every width'}", style=f"bold {color}")
        growing += bool(grow) and name == own
    return growing


def _exponents(of: Coordinates, key: str) -> Values:
    values = of.change[-1] if key == "change" else of.z[0]
    return np.array([exponent(column) for column in values.T])


def _power(p: float) -> str:
    return f"n^{p:+.2f}" if np.isfinite(p) else "zero" if p < 0 else "not finite"


def _log_rms(a: Values) -> float:
    return float(0.5 * np.log(np.mean(np.square(a))))


if __name__ == "__main__":
    exit_process(main())
