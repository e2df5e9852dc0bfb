"""Any command line of groups, keys and values: a result, or one line that names a key; never anything half made.

The words go through Hydra's own runner, as a person's do.
"""

import json
import math
import re
import tempfile
import warnings
from pathlib import Path

import pytest
from conftest import call
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bpx import records
from bpx.system.tree import CONF, flatten, load_option

GROUPS = {
    folder.name: sorted(p.stem for p in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in ("experiment", "sweep", "hydra", "tracking", "dataset")
}
DATASETS = ["classification", "moons", "spirals", "gaussian", "digits", "file"]
SIZES = ("epochs", "max_steps", "threads", "dataset.n_samples")  # what only makes a run longer
OUTSIDE = ("progress", "resume", "dataset.path", "tracking.uri", "hydra")  # what leads out of the working directory
NUMBERS = ["-1", "0", "1", "2", "3", "7", "0.5", "-0.5", "1e-3", "1e30", "1e-30", "1e300", "nan", "inf", "-inf"]
NUMBERS += ["2147483648", "9999999999999999999", "99999999999999999999999"]
WORDS = ["null", "true", "x", "''", "auto", "standard", "unit", "ü", "'a b'", "a b(c", "$1_$2", "'???'", "${oops}"]
WORDS += ["${seed}", "${oc.decode:'[1,2]'}", "${oc.env:NOT_THERE}", "x" * 300]
LISTS = ["[]", "[3,4]", "[3,x]", "[[1],[2]]", "{a:1}", "{}", "[null]", "[" + ",".join("9" * 99) + "]"]
SWEEPS = ["1,2", "choice(1,-1)", "range(0,1e9)", "range(1,3)", "interval(0,1)", "choice(x)", "range(3,1)", "glob(*)"]
VALUES = [*NUMBERS, *WORDS, *LISTS]
SIGNS = ["", "", "", "", "+", "++", "~"]


def keys_of(group, option):
    keys = flatten(load_option(group, option)).keys() - {"defaults"}
    return {f"{group}.{key}".strip(".") for key in keys}


OPTIONS = [*GROUPS.items(), ("tracking", ["mlflow"]), ("dataset", ["digits"])]
KEYS = sorted(
    key
    for key in keys_of("", "config").union(*(keys_of(g, o) for g, options in OPTIONS for o in options))
    if key not in SIZES and not key.startswith(OUTSIDE) and key not in GROUPS
)
KEYS += ["model._target_", "activation._target_", "nothing", "optimizer.nothing", "hydra.verbose"]
TARGETS = ["bpx.engine.optimizers.sgd", "bpx.nothing", "x", "3", "bpx.engine"]

groups = st.fixed_dictionaries({}, optional={name: st.sampled_from(options) for name, options in GROUPS.items()})
change = st.one_of(
    st.tuples(st.sampled_from(SIGNS), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.tuples(st.just(""), st.sampled_from(sorted(GROUPS)), st.sampled_from(VALUES)),
    st.tuples(st.just("++"), st.sampled_from([f"{g}._target_" for g in GROUPS]), st.sampled_from(TARGETS)),
)
swept = st.tuples(st.just(""), st.sampled_from(KEYS + sorted(GROUPS)), st.sampled_from(SWEEPS))


def check(groups, dataset, changes, sweep):
    """Run the command line and hold what it did to what is promised."""
    words = [f"dataset={dataset}", *(f"{group}={option}" for group, option in groups.items())]
    words += [f"{sign}{key}" if sign == "~" else f"{sign}{key}={value}" for sign, key, value in changes]
    words += ["-m", f"{sweep[1]}={sweep[2]}"] if sweep else []
    drawn = [*groups, *(key for _, key, _ in changes), *([sweep[1]] if sweep else [])]
    words += ["epochs=1", "max_steps=4", "tracking=none", "tracking.figures=false", "progress=false"]
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("error")
        done = call(Path(home), "bpx.train", *words, seconds=60)
        assert done.code in (0, 2), done
        if done.code == 2:
            assert done.err.startswith("error: ") and done.err.count("\n") == 1, done
            assert len(done.err) < 1500, f"not cut: {done}"
            assert not done.made, f"half made: {done}"
            drawn = [*drawn, "dataset.path"] if dataset == "file" else drawn  # which that option asks for
            assert names_a_key(done.err, drawn), f"nameless: {done}, {words}"
            return
        for result in Path(home).glob("outputs/**/result.json"):
            facts = json.loads(result.read_text())
            assert facts["outcome"] in ("finished", "diverged")
            assert all(map(math.isfinite, facts["metrics"].values())) or facts["outcome"] == "diverged"
            records.read(result.parent / "gradient_flow.parquet")


def names_a_key(text, keys):
    """Tell whether a message names one of the keys that were drawn, whole or by its last part, or its group."""
    parts = {part for key in keys for part in (key, key.rpartition(".")[2], key.partition(".")[0])}
    return any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) for part in parts)


EVERY = {
    "groups": groups,
    "dataset": st.sampled_from(DATASETS),
    "changes": st.lists(change, max_size=4, unique_by=lambda change: change[1]),
    "sweep": st.one_of(st.none(), st.none(), st.none(), swept),
}
NONE = {"groups": {}, "dataset": "digits", "changes": [], "sweep": None}
QUIET = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "phases": (Phase.explicit, Phase.generate),
}


@settings(max_examples=10, **QUIET)
@given(**EVERY)
@example(**NONE | {"changes": [("", "model.width", "2147483648")]})
@example(**NONE | {"changes": [("", "model.depth", "9999999999999999999")]})
@example(**NONE | {"groups": {"probes": "full", "model": "residual_mlp"}, "dataset": "gaussian"})
def test_any_command_line(groups, dataset, changes, sweep):
    check(groups, dataset, changes, sweep)


@pytest.mark.slow
@settings(max_examples=200, **QUIET)
@given(**EVERY)
def test_any_of_more_command_lines(groups, dataset, changes, sweep):
    check(groups, dataset, changes, sweep)


@pytest.mark.nightly
@settings(max_examples=2000, derandomize=False, **QUIET)
@given(**EVERY)
def test_any_command_line_at_night(groups, dataset, changes, sweep):
    check(groups, dataset, changes, sweep)
