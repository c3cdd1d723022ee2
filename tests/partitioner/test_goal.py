import math
from collections.abc import Callable

import pytest

from isthmus.partitioner.goal import Goal
from isthmus.partitioner.plan import Asked, Candidate
from isthmus.partitioner.search import ENERGY, LATENCY, ON_TIME, THROUGHPUT, Objective

Way = Callable[..., Candidate]


@pytest.mark.parametrize(
    ("objective", "value", "shown"),
    [
        (LATENCY, 0.05, "50 ms"),
        (ENERGY, 2.0, "2 J, 50 ms"),
        (THROUGHPUT, 0.02, "50 frames/s, 50 ms"),
        (ON_TIME, 0.25, "75.0% on time, 50 ms"),
        (Objective(kind="weighted", alpha=10.0, beta=0.5), 1.5, "1.5, 50 ms"),
    ],
)
def test_every_objective_has_its_value(way: Way, objective: Objective, value: float, shown: str) -> None:
    goal = Goal(asked=Asked(objective=objective, deadline_s=1.0))
    item = way("split", 50, energy_j=2.0, period_ms=20, on_time=0.75)
    assert goal.value(item) == pytest.approx(value)
    assert goal.show(item) == shown
    dead = way("split", 50, dead=True, on_time=0.0)
    assert goal.value(dead) == math.inf
    assert goal.show(dead) == "never"


def test_energy_without_weight_may_be_unknown(way: Way) -> None:
    item = way("split", 50)
    only = Objective(kind="weighted", alpha=2.0, beta=0.0)
    assert Goal(asked=Asked(objective=only)).value(item) == pytest.approx(0.1)
    both = Objective(kind="weighted", alpha=2.0, beta=1.0)
    assert Goal(asked=Asked(objective=both)).value(item) == math.inf


def test_equals_are_told_apart_by_time_then_bytes(way: Way) -> None:
    goal = Goal(asked=Asked(objective=ENERGY))
    slow = way("split", 50, energy_j=1.0, nbytes=1)
    fast = way("split", 40, energy_j=1.0, nbytes=2)
    small = way("split", 40, energy_j=1.0, nbytes=1)
    assert sorted([slow, fast, small], key=goal.key) == [small, fast, slow]


def test_a_deadline_is_met_often_enough_or_not(way: Way) -> None:
    goal = Goal(asked=Asked(objective=LATENCY, deadline_s=0.1, deadline_probability=0.9))
    assert goal.in_time(way("split", 50, on_time=0.9))
    assert not goal.in_time(way("split", 50, on_time=0.89))
    assert goal.in_time(way("split", 50))
