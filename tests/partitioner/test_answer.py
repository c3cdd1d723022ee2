from collections.abc import Callable

import pytest

from isthmus.partitioner.answer import decide
from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules
from isthmus.partitioner.goal import Goal
from isthmus.partitioner.plan import Asked, Candidate, Choice, LearnedPoint
from isthmus.partitioner.search import ENERGY, LATENCY, THROUGHPUT
from isthmus.runtime.errors import PlanError

Way = Callable[..., Candidate]


def choose(*found: Candidate, **asked: object) -> Choice:
    goal = Goal(asked=Asked(**{"objective": LATENCY, **asked}))
    return decide(found, goal, rules=BottleneckRules(), assumption=BottleneckAssumption())


def test_a_bottleneck_that_was_asked_for_admits_what_would_be_faster(way: Way) -> None:
    choice = choose(
        way("local", 10, on_time=1.0),
        way("offload", 54, on_time=1.0),
        way("bottleneck", 43.4, cut="a", nbytes=256, on_time=1.0),
        choose="bottleneck",
        deadline_s=0.1,
    )
    assert (choice.kind, choice.cut, choice.deadline_met) == ("bottleneck", "a", True)
    assert choice.gain == pytest.approx(10 / 43.4)
    assert choice.reason == (
        "train a bottleneck at 'a': 43.4 ms, assuming an encoder of 0.33 of the head and a payload of 256 B; "
        "running it all on the device would be 4.3x faster (10 ms); it meets the deadline of 100 ms, "
        "and so does running it all on the device, which costs no accuracy"
    )


def test_no_place_for_a_bottleneck_says_why(way: Way) -> None:
    early, late = "head below 20% of the network's time", "tail below 25% of the network's time"
    refused = [
        way("bottleneck", 1, cut="a", refused=early),
        way("bottleneck", 1, cut="b", refused=early),
        way("bottleneck", 1, cut="c", refused=late),
    ]
    with pytest.raises(PlanError) as caught:
        choose(way("local", 1), *refused, choose="bottleneck")
    assert str(caught.value) == (
        f"no cut fits a bottleneck: {early} (2x), {late} (1x); relax the rules or allow other cuts"
    )
    with pytest.raises(PlanError, match="no cut of this network is a feature map"):
        choose(way("local", 1), choose="bottleneck")


def test_constraints_that_nothing_keeps(way: Way) -> None:
    with pytest.raises(PlanError) as caught:
        choose(
            way("local", 1, refused="needs too much"), way("offload", 1, refused="the input may not leave")
        )
    assert str(caught.value) == (
        "nothing keeps the constraints: needs too much (1x), the input may not leave (1x); relax one of them"
    )


@pytest.mark.parametrize(
    ("local", "offload", "split", "kind", "sentence"),
    [
        (
            20, 54.6, 43.4, "local",
            "do not split: run all of it on the device (20 ms); 2.2x faster than a split at 'a' (43.4 ms)",
        ),
        (
            10_000, 54.6, None, "offload",
            "do not split: send the input as uint8 (3.07 kB) and run all of it on the server (54.6 ms); "
            "no other cut is possible",
        ),
        (
            50, 54.6, 31.5, "split",
            "split at 'a' (64 B cross): 31.5 ms; 1.6x faster than running it all on the device (50 ms)",
        ),
        (
            44.1, 54.6, 43.4, "local",
            "do not split: run all of it on the device (44.1 ms); a split at 'a' takes as long (43.4 ms)",
        ),
    ],
)  # fmt: skip
def test_the_sentence(
    way: Way, local: float, offload: float, split: float | None, kind: str, sentence: str
) -> None:
    found = [way("local", local), way("offload", offload, nbytes=3072, encoding="uint8")]
    if split is not None:
        found.append(way("split", split, cut="a", nbytes=64))
    choice = choose(*found)
    assert (choice.kind, choice.reason) == (kind, sentence)


def test_a_cut_that_the_constraints_force(way: Way) -> None:
    choice = choose(
        way("local", 20, refused="needs too much"),
        way("offload", 20, refused="the input may not leave"),
        way("split", 50, cut="a", nbytes=64),
    )
    assert choice.reason == "split at 'a' (64 B cross): 50 ms; neither end alone keeps the constraints"


def test_a_dead_link_leaves_the_device(way: Way) -> None:
    choice = choose(way("local", 100, on_time=1.0), way("split", 1, cut="a", dead=True), deadline_s=0.2)
    assert (choice.kind, choice.gain, choice.deadline_met) == ("local", None, True)
    assert "with a split at 'a' no frame would ever be answered" in choice.reason


def test_less_energy_wins_where_energy_is_sought(way: Way) -> None:
    choice = choose(way("local", 50, energy_j=2.0), way("split", 80, cut="a", energy_j=0.5), objective=ENERGY)
    assert choice.kind == "split"
    assert choice.gain == 4.0
    assert choice.reason.endswith(
        "0.5 J, 80 ms; 4x more frugal than running it all on the device (2 J, 50 ms)"
    )


def test_more_frames_win_where_throughput_is_sought(way: Way) -> None:
    choice = choose(way("local", 50), way("split", 80, cut="a", period_ms=20), objective=THROUGHPUT)
    assert (choice.kind, choice.gain) == ("split", 2.5)
    assert "50 frames/s, 80 ms; 2.5x higher in throughput than" in choice.reason


def test_in_time_comes_before_better(way: Way) -> None:
    """The frugal split is late, so the device's own answer is the one to take."""
    choice = choose(
        way("local", 50, energy_j=2.0, on_time=1.0),
        way("split", 80, cut="a", energy_j=0.5, on_time=0.0),
        objective=ENERGY,
        deadline_s=0.06,
    )
    assert (choice.kind, choice.deadline_met) == ("local", True)
    choice = choose(
        way("local", 80, energy_j=0.5, on_time=0.0),
        way("split", 50, cut="a", energy_j=2.0, on_time=1.0),
        objective=ENERGY,
        deadline_s=0.06,
    )
    assert (choice.kind, choice.deadline_met) == ("split", True)


def test_a_deadline_that_nothing_meets(way: Way) -> None:
    choice = choose(way("local", 50, on_time=0.0), way("offload", 60, on_time=0.4), deadline_s=0.01)
    assert choice.deadline_met is False
    assert choice.reason.endswith("it misses the deadline of 10 ms, and so does everything else")
    choice = choose(way("local", 50, on_time=1.0), way("offload", 20, on_time=0.96), deadline_s=0.06)
    assert choice.reason.endswith("it meets the deadline of 60 ms (96.0% of frames on time)")


def test_a_trained_bottleneck_is_used_and_not_trained(way: Way) -> None:
    point = LearnedPoint(width=0.5, channels=8, accuracy=0.931)
    choice = choose(way("local", 50), way("bottleneck", 20, cut="a", nbytes=300, learned=point))
    assert choice.reason == (
        "use the trained bottleneck at 'a' with width 0.5 and 8 channels (300 B, accuracy 93.1%): 20 ms; "
        "2.5x faster than running it all on the device (50 ms)"
    )
