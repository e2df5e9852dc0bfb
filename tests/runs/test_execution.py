"""A run while it lasts: what its watcher may ask for."""

from pathlib import Path

import numpy as np

from bpx.records import Outcome
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.training.checkpoint import newest_facts

WORDS = ["dataset=classification", "epochs=5", "tracking=none", "tracking.figures=false", "progress=false"]


class Pruner:
    """End a run at its second record, with the kind of truth that Optuna's pruners return."""

    tags = property(lambda self: {})
    seen = 0

    def started(self, run_id, directory, dataset):
        self.directory = directory

    def observed(self, metrics):
        self.seen += 1
        return np.bool_(self.seen == 2)


def test_a_run_is_pruned_by_its_watcher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pruner = Pruner()
    result = train_run(compose(*WORDS), "run", Path("outputs"), WORDS, quiet=True, watcher=pruner)
    assert result.outcome == Outcome.PRUNED and pruner.seen == 2 and result.directory == pruner.directory
    assert newest_facts(result.directory / "checkpoints")["pruned"] is True
