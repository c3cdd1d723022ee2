from collections.abc import Callable

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isthmus.partitioner.facts import BottleneckRules
from isthmus.partitioner.goal import Goal
from isthmus.partitioner.plan import Asked, Candidate, LearnedPoint
from isthmus.partitioner.ranking import best, best_bottleneck, finalists, pareto
from isthmus.partitioner.search import LATENCY

Way = Callable[..., Candidate]
GOAL = Goal(asked=Asked(objective=LATENCY))


def test_of_equally_fast_bottlenecks_the_smallest_tensor_wins_then_the_deepest(way: Way) -> None:
    found = [
        way("bottleneck", 10, cut="early", head=0.25, shape=(1, 16, 32, 32)),
        way("bottleneck", 10.5, cut="before", head=0.30, shape=(1, 64, 8, 8)),
        way("bottleneck", 10.6, cut="after", head=0.31, shape=(1, 64, 8, 8)),
        way("bottleneck", 14, cut="late", head=0.74, shape=(1, 8, 8, 8)),
    ]
    assert best(found, ("bottleneck",), GOAL) == 0
    assert best_bottleneck(found, BottleneckRules(), GOAL) == 2
    assert best_bottleneck(found, BottleneckRules(tolerance=0.0), GOAL) == 0
    assert best_bottleneck([way("local", 1)], BottleneckRules(), GOAL) is None


def test_finalists_take_turns_and_skip_twins(way: Way) -> None:
    found = [
        way("split", 30, cut="before", head=0.30, nbytes=100),
        way("bottleneck", 20, cut="before", head=0.30, shape=(1, 16, 16, 16)),
        way("split", 31, cut="after", head=0.31, nbytes=100),
        way("bottleneck", 21, cut="after", head=0.31, shape=(1, 16, 16, 16)),
        way("bottleneck", 22, cut="deep", head=0.60, shape=(1, 8, 8, 8)),
        way("split", 40, cut="vector", head=0.99),
    ]
    rules = BottleneckRules(tolerance=0.0)
    cuts = [found[index].cut for index in finalists(found, rules, GOAL, 10)]
    assert cuts == ["after", "deep", "vector"]
    assert [found[index].cut for index in finalists(found, rules, GOAL, 1)] == ["after"]
    assert finalists([way("local", 1)], rules, GOAL, 3) == []


def test_a_cut_at_several_tensors_is_no_twin_of_one_at_one(way: Way) -> None:
    found = [
        way("split", 30, cut="one", head=0.5),
        way("split", 31, cut="two", head=0.5, tensors=2),
    ]
    assert finalists(found, BottleneckRules(), GOAL, 5) == [0, 1]


def test_a_trained_bottleneck_needs_no_rebuilding(way: Way) -> None:
    point = LearnedPoint(width=1.0, channels=8, accuracy=0.9)
    trained, assumed = way("bottleneck", 1, cut="a", learned=point), way("bottleneck", 2, cut="b")
    found = [msgspec.structs.replace(trained, measured=trained.predicted), assumed]
    assert finalists(found, BottleneckRules(), GOAL, 5) == [1]
    assert best_bottleneck(found, BottleneckRules(), GOAL) == 1


def test_a_measured_candidate_is_not_beaten_by_a_prediction(way: Way) -> None:
    quick, slow = way("bottleneck", 10, cut="a"), way("bottleneck", 12, cut="b")
    measured = msgspec.structs.replace(slow, measured=slow.predicted)
    assert best([quick, measured], ("bottleneck",), GOAL) == 1
    assert best([quick, slow], ("bottleneck",), GOAL) == 0


def test_what_is_in_time_comes_first(way: Way) -> None:
    late, frugal = way("split", 10, cut="a", on_time=0.5), way("split", 30, cut="b", on_time=0.97)
    asked = Asked(objective=LATENCY, deadline_s=0.02, deadline_probability=0.95)
    assert best([late, frugal], ("split",), Goal(asked=asked)) == 1
    stricter = msgspec.structs.replace(asked, deadline_probability=0.99)
    assert best([late, frugal], ("split",), Goal(asked=stricter)) == 0


def test_what_loses_too_much_accuracy_is_not_chosen(way: Way) -> None:
    found = [
        way(
            "bottleneck",
            10,
            cut="a",
            learned=LearnedPoint(width=0.25, channels=1, accuracy=0.5),
            accuracy=0.5,
        ),
        way(
            "bottleneck",
            20,
            cut="a",
            learned=LearnedPoint(width=1.0, channels=8, accuracy=0.93),
            accuracy=0.93,
        ),
    ]
    asked = Asked(objective=LATENCY, least_accuracy=0.92)
    assert best(found, ("bottleneck",), Goal(asked=asked)) == 1
    assert best(found, ("bottleneck",), GOAL) == 0
    assert pareto(found) == (0, 1)


@given(st.integers(0, 2**32 - 1))
def test_pareto_set_equals_its_definition(way: Way, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = []
    for index in range(rng.integers(1, 12)):
        kind = str(rng.choice(["local", "offload", "split", "bottleneck"]))
        accuracy = float(rng.choice([0.5, 0.9])) if rng.random() < 0.3 else None
        found.append(
            way(
                kind,
                float(rng.choice([1, 2, 3])),
                cut=f"t{index}",
                nbytes=int(rng.choice([0, 1, 2])),
                energy_j=float(rng.choice([1, 2])),
                accuracy=accuracy,
                refused="no" if rng.random() < 0.2 else None,
                dead=rng.random() < 0.1,
            )
        )

    def point(item: Candidate) -> tuple[float, ...]:
        figures = item.figures
        return (
            item.times.total_s,
            item.payload_bytes,
            figures.energy_j,
            figures.period_s,
            -(item.accuracy or 0),
        )

    def group(item: Candidate) -> object:
        return "known" if item.accuracy is not None else item.kind == "bottleneck"

    alive = [i for i, item in enumerate(found) if item.refused is None and item.times.total_s is not None]
    beaten = {
        i
        for i in alive
        for j in alive
        if group(found[i]) == group(found[j])
        and point(found[j]) != point(found[i])
        and all(a <= b for a, b in zip(point(found[j]), point(found[i]), strict=True))
    }
    front = pareto(found)
    assert {(group(found[i]), point(found[i])) for i in front} == {
        (group(found[i]), point(found[i])) for i in alive if i not in beaten
    }
    assert len({(group(found[i]), point(found[i])) for i in front}) == len(front)


def test_energy_counts_only_where_all_are_known(way: Way) -> None:
    costly = way("split", 10, cut="a", energy_j=5.0)
    frugal = way("split", 11, cut="b", energy_j=1.0)
    assert pareto([costly, frugal]) == (0, 1)
    assert pareto([costly, frugal, way("split", 20, cut="c")]) == (0,)
