"""Whether the remedies that a finding names are remedies, over random compositions.

python benchmarks/remedies.py [compositions] [first]     prints a Markdown table; remedies.jsonl keeps what it saw

Every composition is a command: depth 3 to 60, width 5 to 300, any activation, initializer, normalization, dropout and
model of Dense layers, on digits; one in four is a model of images or of their rows, depth 3 to 10, width 8 to 48.
Where its finding is vanishing or exploding, (a) each named remedy is composed as it is printed, and ten networks are
drawn with it; (b) every single change of a group option is tried until one of them cures the network: ten networks
drawn with it are healthy with |slope| * (hidden layers - 1) <= 0.5, each. The seeds are not those that the finding has
used. BLAS has one thread; the numbers do not depend on the machine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bpx.config.plan import make_plan, spawn_rngs
from bpx.data import Dataset
from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.diagnosis.observation import hidden_slope
from bpx.diagnosis.remedies import CURED_DECADES, option_values
from bpx.engine import ACTIVATIONS
from bpx.engine.models import MODELS
from bpx.engine.network import Network
from bpx.runs.networks import FromPlan, build_network, change
from bpx.runs.study import compose
from bpx.system.errors import UserError
from bpx.theory import slope_verdict

DRAWN = 10
SEEN = Path("remedies.jsonl")
INITIALIZERS = [*option_values("initializer"), "looks_linear", "mup", "constant", "zeros"]
DENSE = [name for name, model in MODELS.items() if model.takes == "rows"]
OF_POSITIONS = [name for name, model in MODELS.items() if model.takes != "rows"]


def composition(number: int) -> list[str]:
    """Return the words of a random command."""
    rng = np.random.default_rng((10, number))

    def one(values: Sequence[Any]) -> Any:
        return values[int(rng.integers(len(values)))]

    def between(low: float, high: float) -> int:
        return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))

    initializer = one(INITIALIZERS)
    words = [f"seed={number}", f"activation={one(list(ACTIVATIONS))}", f"initializer={initializer}"]
    if rng.random() < 0.75:
        depth, width = between(3, 60), between(5, 300)
        width += width % 2 * (initializer == "looks_linear")  # it takes even widths
        words += [f"model={one(DENSE)}", f"model.depth={depth}", f"model.width={width}"]
    else:
        model = one(OF_POSITIONS)
        words += [f"model={model}", f"model.depth={between(3, 10)}", f"model.width={4 * between(2, 12)}"]
        words += ["model.hidden=null"] if model == "convnet" else []
    if not any(f"model={name}" in words for name in ("rnn", "lstm", "gru")):  # those take none
        words.append(f"normalization={one(option_values('normalization'))}")
    if rng.random() < 0.4:
        words += ["dropout=inverted", f"dropout.rate={one((0.05, 0.1, 0.2, 0.5))}"]
    if initializer in ("he_normal", "xavier_normal", "lecun_normal", "orthogonal") and rng.random() < 0.5:
        words.append(f"initializer.{one(('gain', 'sigma_w'))}={one((0.5, 0.8, 1.2, 2, 3))}")
    if rng.random() < 0.2:
        words.append(f"initializer.bias_std={one((0.1, 1))}")
    return words


def drawn(plan: Any, data: Dataset, first: int) -> Iterator[Network]:
    """Yield networks of a plan, each after a pass with a batch of its own."""
    for number in range(first, first + DRAWN):
        rngs = spawn_rngs((number,))
        net = build_network(plan, data, rngs)
        rows = rngs["shuffle"].choice(len(data.x_train), net.batch, replace=False)
        net.cost(data.x_train[rows], data.y_train[rows])
        net.backward()
        yield net


def decades(net: Network) -> float:
    """Return |slope| * (hidden layers - 1), infinite where there is no slope."""
    line = hidden_slope(net)
    return abs(line.slope) * (len(net.dense) - 2) if line is not None else np.inf


def healthy(net: Network) -> bool:
    """Return whether the verdict on a network is healthy."""
    line = hidden_slope(net)
    return line is not None and slope_verdict(line.slope, len(net.dense) - 1) == "healthy"


def typed(words: Sequence[str], remedy: str) -> list[str]:
    """Return the command with a remedy typed after it, the words that it names left out."""
    added, _, rest = remedy.partition(" (without ")
    out = rest.rstrip(")").split(" and ")
    return [word for word in words if word.partition("=")[0] not in out] + added.split()


def changes(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every single change of a group option; of models those of the same family."""
    families = {MODELS[name].family for name in MODELS if f"model={name}" in words}
    for key in ("initializer", "normalization", "model", "activation"):
        yield from ((key, value) for value in option_values(key) if key != "model" or MODELS[value].family in families)
    if any(word.startswith("dropout") for word in words):
        yield "dropout", "none"


def look(number: int) -> dict[str, Any]:
    """Return what one composition shows."""
    words = composition(number)
    seen: dict[str, Any] = {"number": number, "words": " ".join(words)}
    try:
        plan, rngs = make_plan(compose(*words)), spawn_rngs(number)
        data = plan.source.load(rngs["data"], np.dtype(plan.settings.dtype))
        net = build_network(plan, data, rngs)
    except UserError as error:
        return seen | {"error": str(error)}
    net.cost(data.x_train[: net.batch], data.y_train[: net.batch])
    net.backward()
    prediction = predict_network(net, band=False)[-1]
    start = time.process_time()
    finding = diagnose_pass(net, observe(net), prediction, FromPlan(plan, data, words))
    seen |= {"seconds": time.process_time() - start, "verdict": finding.verdict, "cause": finding.cause}
    seen |= {"factor": finding.factor, "trials": finding.trials, "remedies": [list(r) for r in finding.remedies]}
    if finding.verdict not in ("vanishing", "exploding"):
        return seen
    seen["healthy"], cure = [], ""
    for remedy, *_ in finding.remedies:
        nets = [(healthy(n), decades(n)) for n in drawn(make_plan(compose(*typed(words, remedy))), data, 10**6)]
        seen["healthy"].append(sum(well for well, _ in nets))
        cure = cure or (remedy if max(d for _, d in nets) <= CURED_DECADES else "")
    for key, value in changes(words) if not cure else ():
        try:
            config, said = change(plan.config, key, value)
            if config != plan.config and all(
                decades(n) <= CURED_DECADES for n in drawn(plan.changed(config), data, 2 * 10**6)
            ):
                cure = said
                break
        except UserError:
            continue
    return seen | {"cure": cure}


def report(seen: Sequence[dict[str, Any]]) -> str:
    """Return the two numbers, with what they are made of, as a Markdown table."""
    made = [s for s in seen if "verdict" in s]
    unhealthy = [s for s in made if "healthy" in s]
    tried = [n for s in unhealthy for n in s["healthy"]]
    cured = [s for s in unhealthy if s["cure"]]
    named = [s for s in cured if s["remedies"]]
    seconds = [s["seconds"] for s in unhealthy]
    rows = [
        ("compositions, vanishing or exploding", f"{len(made)}, {len(unhealthy)}", ""),
        ("remedies named, networks drawn with them", f"{len(tried)}, {DRAWN * len(tried)}", ""),
        ("of these networks healthy / %", f"{100 * sum(tried) / max(DRAWN * len(tried), 1):.1f}", "at least 97"),
        ("networks that a single change cures", f"{len(cured)}", ""),
        ("of these with a remedy named / %", f"{100 * len(named) / max(len(cured), 1):.1f}", "at least 90"),
        ("without a remedy named, and yet a change cures them", f"{len(cured) - len(named)}", "0"),
        ("cause and remedies / CPU seconds, median and most", f"{np.median(seconds):.2f}, {max(seconds):.2f}", ""),
    ]
    return "\n".join(["| | measured | bar |", "|---|---:|---:|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def main() -> None:
    """Look at the compositions that are not in remedies.jsonl yet, and report on all that were asked for."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    seen = [json.loads(line) for line in SEEN.read_text().splitlines()] if SEEN.exists() else []
    have = {s["number"] for s in seen}
    with threadpool_limits(1), np.errstate(all="ignore"), SEEN.open("a") as file:
        for number in range(first, first + n):
            if number not in have:
                seen.append(look(number))
                file.write(json.dumps(seen[-1]) + "\n")
                file.flush()
    print(report([s for s in seen if first <= s["number"] < first + n]))


if __name__ == "__main__":
    main()
