from pathlib import Path

import numpy as np
import pytest

from isthmus.partitioner.costs.anchors import Spot, measure_spots, spread_out
from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.running.execution import random_feed
from isthmus.partitioner.running.runner import Runner


def spots(*places: float) -> list[Spot]:
    return [Spot(tensor=f"t{index}", before=place) for index, place in enumerate(places)]


def test_anchors_are_spread_over_time_ends_first() -> None:
    """Ten cuts in the first tenth of the time are no ten places."""
    places = spots(*(index / 100 for index in range(1, 11)), 0.5, 0.75, 0.9)
    chosen = [spot.before for spot in spread_out(places, 5)]
    assert chosen == [0.9, 0.01, 0.5, 0.75, 0.1]


@pytest.mark.parametrize(("count", "tensors"), [(0, []), (1, ["t1"]), (2, ["t1", "t0"]), (9, ["t1", "t0"])])
def test_there_are_no_more_anchors_than_asked_for_or_than_spots(count: int, tensors: list[str]) -> None:
    assert [spot.tensor for spot in spread_out(spots(0.2, 0.8), count)] == tensors
    assert spread_out([], count) == []


def test_halves_are_shares_of_a_whole_timed_beside_them(residual_file: Path) -> None:
    network, runner = load_network(residual_file), Runner(threads=1)
    feed = random_feed([network.graph.tensors["image"]], np.random.default_rng(0))
    whole, _ = runner.prepare(network.original, network, feed)
    places = [Spot(tensor="b1", before=0.5), Spot(tensor="stem.relu", before=0.1)]
    found = measure_spots(network, places, runner=runner, feed=feed, whole=whole, budget_s=0.4)
    assert [item.spot for item in found] == places
    for item in found:
        assert item.whole_s > 0
        assert 0.3 < item.head_share + item.tail_share < 3
    assert found[0].head_share > found[1].head_share


def test_without_budget_nothing_is_measured(residual_file: Path) -> None:
    network, runner = load_network(residual_file), Runner(threads=1)
    feed = random_feed([network.graph.tensors["image"]], np.random.default_rng(0))
    whole, _ = runner.prepare(network.original, network, feed)
    spots_ = [Spot(tensor="b1", before=0.5)]
    assert measure_spots(network, spots_, runner=runner, feed=feed, whole=whole, budget_s=0.0) == []
