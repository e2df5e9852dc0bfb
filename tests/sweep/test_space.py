"""Hydra's grammar becomes Optuna's distributions, and a trial's values overrides again."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from bpx.cli.overrides import in_quotes
from bpx.sweep.options import parse_options
from bpx.sweep.space import space
from bpx.system.errors import UserError


@pytest.mark.parametrize(
    ("grammar", "distribution", "size"),
    [
        ("interval(0.5,2)", FloatDistribution(0.5, 2.0), None),
        ("tag(log, interval(1e-4, 1))", FloatDistribution(1e-4, 1.0, log=True), None),
        ("int(interval(2,9))", IntDistribution(2, 9), 8),
        ("int(tag(log, interval(1,1000)))", IntDistribution(1, 1000, log=True), 1000),
        ("range(2,51)", IntDistribution(2, 50), 49),
        ("range(2,12,3)", IntDistribution(2, 11, step=3), 4),
        ("range(1,3,0.5)", FloatDistribution(1.0, 2.5, step=0.5), 4),
        ("tag(log, range(1,65))", IntDistribution(1, 64, log=True), 64),
        ("choice(32,64,128)", CategoricalDistribution([32, 64, 128]), 3),
        ("32,64", CategoricalDistribution([32, 64]), 2),
        ("choice(relu,'a b',true,[1,2])", CategoricalDistribution(["relu", "a b", True, "[1,2]"]), 4),
    ],
)
def test_grammar(grammar, distribution, size):
    found = space({"key": grammar}, [])
    assert found.distributions == {"key": distribution} and found.size == size


@pytest.mark.parametrize("grammar", ["choice(relu,'a b',true,[1,2],1.5,'=x')", "interval(1e-7,2e-7)", "range(2,5)"])
def test_a_value_comes_back_through_hydra(grammar):
    found = space({"+key": grammar}, ["other=3"])
    (dimension,) = found.dimensions
    values = getattr(dimension.distribution, "choices", [dimension.middle])
    back = [OverridesParser.create().parse_override(dimension.override(v)) for v in values]
    assert all(o.is_add() and o.key_or_group == "key" for o in back)
    given = OverridesParser.create().parse_override(f"key={grammar}")
    expected = list(given.sweep_iterator()) if given.is_choice_sweep() else values
    assert [o.value() for o in back] == [getattr(v, "text", v) for v in expected]
    assert found.fixed == ("other=3",)


def test_the_command_line_stands_over_the_file():
    file = {"a": "interval(0,1)", "b": "choice(1,2)", "c": "7"}
    found = space(file, ["a=5", "b=range(0,4)", "+experiment=mnist"])
    assert found.distributions == {"b": IntDistribution(0, 3)}
    assert found.overrides({"b": 2}) == ["c=7", "a=5", "+experiment=mnist", "b=2"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "nothing to search"),
        ({"a": "3"}, "nothing to search"),
        ({"a": "interval(2,1)"}, "a=interval(2,1)"),
        ({"a": "tag(log, interval(0,1))"}, "a=tag(log,interval(0,1))"),
        ({"a": "tag(lin, interval(0,1))"}, "unknown tag lin; known is log"),
        ({"a": "range(3,3)"}, "the range is empty"),
        ({"a": "tag(log, range(1,9,2))"}, "one apart"),
        ({"a": "tag(log, choice(1,2))"}, "cannot be logarithmic"),
        ({"a": "choice(1,1)"}, "must differ"),
    ],
)
def test_what_is_no_space_is_one_line(params, words):
    with pytest.raises(UserError) as error:
        space(params, [])
    assert words in str(error.value) and "\n" not in str(error.value)


PARAMS = {
    "optimizer": "choice(sgd,momentum,adam)",
    "optimizer.lr": "choice(0.1,0.2)",
    "optimizer.beta1": {"space": "range(1,4)", "when": {"optimizer": "adam"}},
    "optimizer.momentum": {"space": "choice(0.5,0.9)", "when": {"optimizer": ["momentum", "sgd"]}},
}


def test_a_key_may_be_searched_beside_other_choices_alone():
    found = space(PARAMS, [])
    assert set(found.distributions) == {"optimizer", "optimizer.lr"}
    assert found.size == 2 * 3 + 2 * 2 + 2 * 2  # adam, momentum, sgd
    params = {"optimizer": "adam", "optimizer.lr": 0.1, "optimizer.beta1": 2}
    assert found.overrides(params) == ["optimizer=adam", "optimizer.lr=0.1", "optimizer.beta1=2"]
    assert found.overrides({"optimizer": "sgd", "optimizer.lr": 0.2, "optimizer.momentum": 0.9})[-1].endswith("=0.9")
    assert found.described()["optimizer.momentum"] == "choice(0.5,0.9) when optimizer=momentum|sgd"


def test_a_fixed_key_settles_the_conditions_on_it():
    adam, rmsprop = space(PARAMS, ["optimizer=adam"]), space(PARAMS, ["optimizer=rmsprop"])
    assert set(adam.distributions) == {"optimizer.lr", "optimizer.beta1"} and adam.size == 6
    assert set(rmsprop.distributions) == {"optimizer.lr"}
    assert set(space(PARAMS, ["optimizer.beta1=range(1,9)"]).distributions) == {*PARAMS} - {"optimizer.momentum"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"space": "choice(1,2)"}, "must be a grammar or {space: grammar, when: {key: value}}"),
        ({"space": "choice(1,2)", "when": {}}, "must be a grammar or"),
        (
            {"space": "choice(1,2)", "when": {"optimizer": "adamx"}},
            "must be one of choice(sgd,momentum,adam), got adamx",
        ),
        ({"space": "choice(1,2)", "when": {"other": 1}}, "other must be a key with choices of its own"),
        ({"space": "choice(1,2)", "when": {"optimizer.beta1": 1}}, "searched in every trial"),
    ],
)
def test_a_wrong_condition_is_one_line(given, words):
    with pytest.raises(UserError) as error:
        space(PARAMS | {"batch_size": given}, [])
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"optimizer.lr": 0.3}, "optimizer.lr must be in choice(0.1,0.2), got 0.3"),
        ({"depth": 3}, "depth is not searched; searched are optimizer, optimizer.lr"),
        ({"optimizer": "sgd", "optimizer.beta1": 2}, "optimizer.beta1 needs optimizer=adam"),
        ({"optimizer": "adam", "optimizer.beta1": 2.5}, "optimizer.beta1 must be in range(1,4) when optimizer=adam"),
    ],
)
def test_a_point_outside_the_space_is_one_line(point, words):
    with pytest.raises(UserError) as error:
        space(PARAMS, []).check(point, "hydra.sweeper.enqueue[0]")
    assert str(error.value).startswith("hydra.sweeper.enqueue[0]: ") and words in str(error.value)
    space(PARAMS, []).check({"optimizer": "adam", "optimizer.beta1": 3}, "")


@pytest.mark.parametrize("text", ["a", "it's", "back\\", "b\\'q", "postgresql+psycopg://u:p'w@h/d?x=1", "a b,c=[d]"])
def test_any_text_can_be_quoted(text):
    assert OverridesParser.create().parse_override(f"key={in_quotes(text)}").value() == text


GIVEN = {
    "sampler": {"_target_": "optuna.samplers.TPESampler"},
    "pruner": {"_target_": "optuna.pruners.MedianPruner"},
    "objective": "cost/val",
    "direction": "minimize",
    "n_trials": 5,
    "n_jobs": 1,
    "timeout": None,
    "study_name": None,
    "storage": None,
    "max_failure_rate": 0.5,
    "heartbeat": 20,
    "params": {},
}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("n_trials", 0, "n_trials must be at least 1"),
        ("n_trials", "many", "n_trials must be an integer or null"),
        ("timeout", -1, "timeout must be positive"),
        ("max_failure_rate", 1.5, "must be in [0, 1]"),
        ("study_name", "a/b", "without slashes"),
        ("direction", "up", "minimize or maximize"),
        ("direction", ["minimize", "maximize"], "one for each objective"),
        ("trials", 3, "unknown key hydra.sweeper.trials"),
    ],
)
def test_a_wrong_option_is_one_line(key, value, words):
    with pytest.raises(UserError) as error:
        parse_options(GIVEN | {key: value})
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("target", ["optuna.samplers.Nothing", "nowhere.at.all"])
def test_a_sampler_that_is_not_there_is_one_line(target):
    with pytest.raises(UserError, match=r"hydra\.sweeper\.sampler"):
        parse_options(GIVEN | {"sampler": {"_target_": target}}).make("sampler")
