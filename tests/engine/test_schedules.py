"""Schedules against their formulas, written out a second time, and at their ends."""

import math

import pytest

from bpx.engine import SCHEDULES, sgd

TOTAL = 40
FORMULAS = {
    "constant": ({}, lambda t, n: 1.0),
    "step": ({"step_size": 7, "gamma": 0.5}, lambda t, n: 0.5 ** math.floor(t / 7)),
    "exponential": ({"factor": 0.97}, lambda t, n: math.exp(t * math.log(0.97))),
    "cosine": ({"final": 0.1}, lambda t, n: 0.1 + 0.9 * math.cos(math.pi * min(t, n) / n / 2) ** 2),
    "plateau": ({}, lambda t, n: 1.0),
}


@pytest.mark.parametrize("warmup", [0, 1, 9])
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_at_every_step(name, warmup):
    keys, formula = FORMULAS[name]
    schedule = SCHEDULES[name](total_steps=TOTAL, warmup_steps=warmup, **keys)
    for t in range(TOTAL + 10):
        since = t - max(warmup - 1, 0)
        expected = formula(since, TOTAL - max(warmup - 1, 0)) if since >= 0 else (t + 1) / warmup
        assert schedule(t) == pytest.approx(expected, rel=1e-12), t


@pytest.mark.parametrize(
    ("name", "keys", "values"),
    [
        ("cosine", {"final": 0.1}, [0.11111110, 0.55555558, 1, 0.99541962, 0.54999989, 0.10458036, 0.1]),
        ("exponential", {"factor": 0.97}, [0.11111110, 0.55555558, 1, 0.97000003, 0.71530163, 0.52748084]),
    ],
)
def test_the_warm_up_precedes_the_decay_as_in_optax(name, keys, values):
    """Printed by optax: warmup_{cosine,exponential}_decay_schedule(init_value=1/9, peak_value=1, warmup_steps=8)."""
    schedule = SCHEDULES[name](total_steps=30, warmup_steps=9, **keys)
    assert [schedule(t) for t in (0, 4, 8, 9, 19, 29, 30)][: len(values)] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_base_rate_is_reached_after_the_warm_up(name):
    schedule = SCHEDULES[name](total_steps=1000, warmup_steps=301)
    assert max(schedule(t) for t in range(1000)) == 1


def test_one_cycle_rises_to_one_and_falls_to_almost_nothing():
    cycle = SCHEDULES["one_cycle"](total_steps=TOTAL, pct_start=0.3, div_factor=20, final_div_factor=100)
    values = [cycle(t) for t in range(TOTAL)]
    top = round(0.3 * TOTAL) - 1
    assert values[0] == pytest.approx(1 / 20) and values[-1] == pytest.approx(1 / 2000)
    assert values[top] == max(values) == 1
    assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)
    assert cycle(TOTAL + 100) == values[-1]


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_shortest_runs_have_a_rate(name, total):
    schedule = SCHEDULES[name](total_steps=total)
    assert all(0 <= schedule(t) <= 1 for t in range(total + 2))


def test_plateau_waits_for_its_patience_and_asks_for_a_real_gain():
    plateau = SCHEDULES["plateau"](factor=0.5, patience=1, threshold=0.1)
    seen = []
    for cost in (1.0, 0.95, 0.94, 0.93, 0.92, 0.5, 0.49):  # less than a tenth below 1 is no gain
        plateau.on_evaluation(cost)
        seen.append(plateau(0))
    assert seen == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_the_optimizer_counts_steps_from_zero():
    schedule = SCHEDULES["constant"](warmup_steps=4)
    assert [schedule(t) for t in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert sgd(0.1, schedule=schedule).rate.schedule is schedule


def test_a_rate_beyond_all_numbers_is_inf():
    assert SCHEDULES["exponential"](factor=2.0)(5000) == math.inf == SCHEDULES["step"](gamma=2.0, step_size=1)(5000)
