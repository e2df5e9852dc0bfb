"""Remedies: candidates, each one change of a group option, drawn anew and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol, final

import numpy as np

from bpx.diagnosis.architecture import drawn_at_random, orthogonal
from bpx.diagnosis.observation import hidden_slope
from bpx.diagnosis.trials import geometric_mean, needed_gains, root_mean_square
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.initializers import INITIALIZERS
from bpx.engine.models import MODELS
from bpx.engine.network import Network
from bpx.engine.normalization import NORMALIZATIONS
from bpx.probes import DepthSlope
from bpx.probes.probe import main_path, weight_layers

MAX_REMEDIES = 2  # remedies, of different groups
CURED_DECADES = 0.5  # decades between the first and the last hidden layer, in each drawn network
KEPT_APART = 0.02  # share of the last hidden activations that differs between samples: below it learning is slow
MIN_DRAWS, MAX_DRAWS = 4, 10  # drawn networks that a remedy is named after
MARGIN_STDS = 5.0  # standard deviations between the mean and the limit of healthy, for fewer than MAX_DRAWS
SAME_SCALE_ERRORS = 5.0  # standard errors within which two networks' weights are drawn alike
MAX_WORK = 3e10  # multiplications, at most about, of all passes: a second or two on one core
MAX_WORK_FIRST = 1e11  # the same as long as no remedy is found: every option of 60 layers of 300 is tried
LSUV_PASSES = 5  # that scaling all layers on data takes, about

ORDER = {  # the options that people know best come first, what is registered besides comes last
    "initializer": (
        *("he_normal", "xavier_normal", "lecun_normal", "critical", "orthogonal"),
        *("he_uniform", "xavier_uniform", "lecun_uniform", "lsuv"),
    ),
    "activation": ("relu", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "softsign", "hard_tanh", "softplus"),
    "normalization": ("layer", "rms", "batch", "none"),
    "model": ("mlp", "residual_mlp"),
}
REGISTERED: dict[str, Iterable[str]] = {
    "initializer": INITIALIZERS,
    "activation": ACTIVATIONS,
    "normalization": NORMALIZATIONS,
    "model": MODELS,
}
# equal weights keep their symmetry; a hundred linear layers are one; other rates come with mup; without kernels
# delta_orthogonal is orthogonal
NO_REMEDIES = ("zeros", "constant", "linear", "mup", "looks_linear", "delta_orthogonal", "sin")
SCHEME_GAIN = {"he": math.sqrt(2), "xavier": 1.0, "lecun": 1.0, "orthogonal": 1.0}  # the rest: what is needed
RATE_DIVISORS = (2, 5, 10, 20)  # the rate is divided by these
GROUPS = ("initializer", "normalization", "model", "dropout", "dropout.rate", "dataset.scaling", "activation")
GROUPS_BY_CAUSE = {  # the groups that a cause asks for first
    "weights": ("initializer",),
    "symmetry": ("initializer",),
    "dropout": ("dropout", "dropout.rate"),
    "normalization": ("normalization",),
    "shortcuts": ("normalization", "model"),
    "inputs": ("dataset.scaling",),
}
Flow = Callable[[Network], tuple[DepthSlope | None, int]]  # the line through a net's last pass, and its points


@final
@dataclass(frozen=True)
class Candidate:
    """A change of one group option: the ``change`` in words, the ``command`` that makes it, and networks drawn with it.

    ``draws`` yields freshly drawn networks without end, each after a forward and a backward pass with a batch, and
    none where the change makes no network.
    """

    change: str
    draws: Iterator[Network]
    command: str = ""


class Remedy(NamedTuple):
    """A change that was measured as healthy.

    Attributes
    ----------
    change : str
        What changes, as ``bpx.train`` takes it: ``initializer=critical``.
    factor : float
        Median factor of delta per layer of the networks drawn with it.
    command : str
        The whole command to type; the change alone where there was no command.
    """

    change: str
    factor: float
    command: str


class Redraw(Protocol):
    """Draws networks like the diagnosed one: from a run's configuration, or from the network itself."""

    def __call__(self, key: str, value: str) -> Candidate | None:
        """Return the change of an option, ``key=value``; None where that changes nothing."""


def find_remedies(net: Network, redraw: Redraw, causes: Iterable[str]) -> tuple[Remedy, ...]:
    """Return the changes that make ``net`` healthy.

    The groups that a cause asks for come first, without a cause that of the normalization, if there is one. Of each
    group the first option that holds is named, of at most two groups. An option holds where freshly drawn networks were
    healthy with |slope| * (hidden layers - 1) <= 0.5, each of them: four if the limit of a decade is five standard
    deviations away from their mean, else ten. Where none holds, the first is named of which ten networks were healthy,
    each, and within 0.5 in root mean square. Options that draw weights of the scale that ``net`` has are no change.

    A remedy that leaves the samples alike (``share_apart`` below 0.02) is named last: gradients of equal samples are
    level and teach little (Schoenholz et al. 2017: a net trains where the correlation of its inputs survives).
    """
    asked = [group for cause in causes for group in GROUPS_BY_CAUSE.get(cause, ())]
    if not asked and net.spec is not None and net.spec.normalization is not None:
        asked = ["normalization"]  # which divides the weights' scale out
    options = {key: _options(net, key) for key in dict.fromkeys([*asked, *GROUPS])}
    return first_that_hold(net, redraw, options, depth_flow)


def first_that_hold(
    net: Network, redraw: Redraw, options: Mapping[str, Sequence[str]], flow: Flow
) -> tuple[Remedy, ...]:
    """Return the first value that holds of each key of ``options``, of at most two keys, measured as ``flow`` says."""
    done = 0.0
    found: list[tuple[bool, Remedy]] = []
    nearly: list[tuple[bool, Remedy]] = []
    for key, values in options.items():
        for value in values:
            work = (MAX_WORK if found or nearly else MAX_WORK_FIRST) - done
            if work <= 0 or len(found) == MAX_REMEDIES:
                break
            if (candidate := redraw(key, value)) is None:
                continue
            measured = _measure(net, key, value, candidate, work, flow)
            done += measured.cost
            if measured.slopes:
                factor = 10 ** float(np.median(measured.slopes))
                remedy = Remedy(candidate.change, factor, candidate.command or candidate.change)
                (found if measured.held else nearly).append((measured.apart < KEPT_APART, remedy))
                if measured.held:
                    break
    return tuple(remedy for _, remedy in sorted(found or nearly[:1], key=lambda item: item[0]))


def depth_flow(net: Network) -> tuple[DepthSlope | None, int]:
    """Return the line through delta of the hidden layers, and the number of these."""
    return hidden_slope(net), len(main_path(weight_layers(net)))


def share_apart(net: Network) -> float:
    """Return the share of the last hidden activations' mean square that differs between the samples of a pass."""
    a = np.asarray(net.dense[-1].x, np.float64)
    total = float(np.mean(a * a))
    return float(a.var(axis=0).mean()) / total if total > 0 else 0.0


def option_values(key: str) -> list[str]:
    """Return the options of a group that may be a remedy, in the order in which they are tried."""
    return [name for name in dict.fromkeys([*ORDER[key], *REGISTERED[key]]) if name not in NO_REMEDIES]


def other_models(name: str) -> list[str]:
    """Return the models of the family of the one of this name, which take the same samples."""
    family = MODELS[name].family
    return [other for other in option_values("model") if other != name and MODELS[other].family == family]


def _options(net: Network, key: str) -> Sequence[str]:
    """Return the candidate values of ``key``, the most promising first."""
    assert net.spec is not None
    spec = net.spec
    if key == "initializer":
        need = geometric_mean(needed_gains(net)[1:]) or 1.0
        gain = {name: SCHEME_GAIN.get(name.partition("_")[0], need) for name in option_values(key)}
        far = {name: round(abs(math.log(gain[name] / need)), 1) for name in gain}
        return sorted(gain, key=lambda name: (name == "lsuv", name not in ORDER[key], far[name]))  # it costs most
    if key == "dropout":
        return ("none",) if spec.dropout else ()
    if key == "dropout.rate":
        return [f"{spec.dropout / share:.2g}" for share in RATE_DIVISORS] if spec.dropout else ()
    if key == "dataset.scaling":
        return ("standard",)
    if key == "model":
        return other_models(spec.model)
    norm = "none" if spec.normalization is None else spec.normalization.method
    now = {"normalization": norm, "activation": spec.activation.name}[key]
    return [value for value in option_values(key) if value != now]


@final
@dataclass(frozen=True)
class _Measured:
    """Slopes of drawn networks (none where one was not healthy), the work done, their apartness, whether each held."""

    slopes: tuple[float, ...]
    cost: float
    apart: float = 1.0
    held: bool = False


def _measure(net: Network, key: str, value: str, candidate: Candidate, work: float, flow: Flow) -> _Measured:
    slopes: list[float] = []
    apart: list[float] = []
    cost, squares, held = 0.0, 0.0, True
    for drawn in islice(candidate.draws, MAX_DRAWS):
        cost += draw_cost(drawn, value)
        if not slopes and key == "initializer" and _drawn_alike(net, drawn):
            return _Measured((), cost)
        line, L = flow(drawn)
        decades = math.inf if line is None else abs(line.slope) * (L - 1)
        held = held and decades <= CURED_DECADES
        squares += decades * decades
        if line is None or decades > 1 or squares > MAX_DRAWS * CURED_DECADES**2:
            return _Measured((), cost)
        slopes.append(line.slope)
        apart.append(share_apart(drawn))
        if held and are_enough(slopes, L):
            break
        if cost > work:
            return _Measured((), cost)
    return _Measured(tuple(slopes), cost, float(np.median(apart)) if apart else 1.0, held)


def are_enough(slopes: Sequence[float], L: int) -> bool:
    """Return whether the slopes of drawn networks, all cured, leave no doubt that the next one is healthy."""
    decades = np.array(slopes) * (L - 1)
    return len(slopes) >= MIN_DRAWS and abs(decades.mean()) + MARGIN_STDS * decades.std(ddof=1) <= 1


def draw_cost(net: Network, value: str) -> float:
    """Return about how many multiplications a draw and a pass take: a random number counts as forty."""
    rows = math.prod(net.dense[0].y.shape[:-1])
    passes = float(net.parameters.n_weights) * (3 * rows + 40) + 1e6 * len(net.dense)
    if value not in ("orthogonal", "lsuv"):
        return passes
    decompositions = 4.0 * float(sum(dense.W.value.size * min(dense.W.value.shape) for dense in net.dense))
    return decompositions + passes * (LSUV_PASSES if value == "lsuv" else 1)


def _drawn_alike(net: Network, other: Network) -> bool:
    """Return whether two networks' hidden weights are drawn alike: at one scale, but for the error of so many draws."""
    pairs = list(zip(net.dense[1:-1], other.dense[1:-1], strict=True))
    scales = [(root_mean_square(a.W.value), root_mean_square(b.W.value)) for a, b in pairs]
    if not all(a > 0 and b > 0 for a, b in scales):
        return False
    off = abs(sum(math.log(a / b) for a, b in scales))
    if off > SAME_SCALE_ERRORS * math.sqrt(sum(1 / a.W.value.size for a, _ in pairs)) + 1e-9:
        return False
    kinds = [(drawn_at_random(W), orthogonal(W)) for W in (n.dense[1].W.value for n in (net, other))]
    return kinds[0] == kinds[1]
