"""Any composition of groups and values: a result, or one line; never anything else, and nothing half made."""

import json
import math
import warnings
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from bpx import records
from bpx.cli.command import one_line
from bpx.config import CONF, UserError, flatten
from bpx.runs.run import perform

GROUPS = {
    folder.name: sorted(p.stem for p in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in ("experiment", "sweep", "hydra", "tracking", "dataset")
}
DATASETS = ["classification", "moons", "spirals", "gaussian", "digits", "file"]
SIZES = ("epochs", "max_steps", "threads", "dataset.n_samples")  # what only makes a run longer
VALUES = [
    *(
        "null",
        "true",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "7",
        "0.5",
        "-0.5",
        "1e-3",
        "1e30",
        "1e-30",
        "1e300",
        "nan",
        "inf",
        "-inf",
    ),
    *("x", "''", "[]", "[3,4]", "[3,x]", "{a:1}", "auto", "standard", "unit", "2147483648", "9999999999999999999"),
]


def composed(words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=words)


KEYS = [key for key in flatten(composed([])) if key not in SIZES and not key.startswith(("tracking.", "resume"))]
groups = st.fixed_dictionaries({}, optional={name: st.sampled_from(options) for name, options in GROUPS.items()})
changes = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(groups=groups, dataset=st.sampled_from(DATASETS), changes=changes)
@example(groups={}, dataset="digits", changes={"model.width": "2147483648"})
@example(groups={}, dataset="digits", changes={"model.depth": "9999999999999999999"})
@example(groups={"probes": "full", "model": "residual_mlp"}, dataset="gaussian", changes={})
def test_any_configuration(groups, dataset, changes, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("any")
    monkeypatch.chdir(home)
    words = [f"dataset={dataset}", *(f"{k}={v}" for k, v in {**groups, **changes}.items()), "epochs=1", "max_steps=4"]
    words += ["tracking=none", "tracking.figures=false", "progress=false"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            config = composed(words)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # as `command` takes them
            assert one_line(error) and "\n" not in one_line(error)
            return
        try:
            done = perform(config, "any", Path("outputs/any"), words, quiet=True)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            said = str(error) if isinstance(error, UserError) else one_line(error)
            assert said and "\n" not in said, said
            assert not Path("outputs").exists(), f"half made: {said}"
            return
    assert done.outcome in ("finished", "diverged")
    assert json.loads((done.directory / "result.json").read_text())["outcome"] == done.outcome
    assert all(math.isfinite(value) for value in done.metrics.values()) or done.outcome == "diverged"
    records.read(done.directory / "gradient_flow.parquet")
