"""Trials composed from those before are what Hydra composes."""

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from bpx.sweep.composition import TrialComposition
from bpx.system.tree import CONF


@pytest.fixture
def loaders():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["hydra/sweeper=bpx_optuna", "hydra.sweeper.n_trials=3"]
        yield loader, TrialComposition(loader), loader.load_configuration("config", words, RunMode.MULTIRUN)


def words_of(i):
    """Words as of a search's trials: options and values that change, a quoted text, additions, the environment."""
    return [
        f"optimizer={['momentum', 'adam'][i % 2]}",
        f"optimizer.lr={0.1 / (i + 1)}",
        f"model.depth={i}",
        f"tracking.experiment='run {i}, = [x]'",
        f"optimizer.clip_norm={['null', '1.5'][i % 2]}",
        f"model.hidden={[None, [20, 10 + i]][i % 3 == 0] or 'null'}".replace(" ", ""),
        f"hydra.sweep.dir='out {i // 3}'",
        "++hydra.sweeper.storage='sqlite:///x'",
        f"++hydra.job.env_set.BPX_TRIAL='{i}'",
        *(["optimizer.lr=0.3"] if i == 5 else []),
    ]


def test_a_trial_is_composed_as_hydra_does(loaders):
    loader, cached, master = loaders
    expected = [OmegaConf.to_container(loader.load_sweep_config(master, words_of(i))) for i in range(12)]
    for i in [*range(12), *range(12)]:
        got = cached.load_sweep_config(master, words_of(i))
        assert OmegaConf.to_container(got) == expected[i]
        got.optimizer.lr = -1.0  # what a trial does to its own is no other's
        got.hydra.overrides.task.append("x")


def test_equal_plans_are_composed_by_hydra_once(loaders, monkeypatch):
    loader, cached, master = loaders
    calls = []
    compose = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda *words: calls.append(words) or compose(*words))
    for i in range(9):
        cached.load_sweep_config(master, [f"optimizer.lr={i + 1}", f"optimizer={['sgd', 'adam'][i % 2]}", "seed=3"])
    assert len(calls) == 2


def test_what_does_not_fit_is_refused_in_hydras_words(loaders):
    loader, cached, master = loaders
    for word in ("optimizer.lr=0.1", "optimizer.lr=0.1", "optimizer.rate=0.1", "optimizer.rate=0.1"):
        try:
            expected = loader.load_sweep_config(master, [word])
        except HydraException as error:
            with pytest.raises(type(error), match=r"optimizer\.rate"):
                cached.load_sweep_config(master, [word])
        else:
            assert cached.load_sweep_config(master, [word]) == expected
