from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from isthmus.partitioner.costs import halves
from isthmus.partitioner.costs.halves import DEVICE, measure_cuts
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.running.execution import Timing
from isthmus.partitioner.running.runner import Runner
from isthmus.runtime.errors import PlanError

ONE = Runner(threads=1)
Calls = Mapping[str, Callable[[], object]]


@pytest.fixture(scope="module")
def network(residual_file: Path) -> Network:
    return load_network(residual_file)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace timing by a script: seconds by call, one mapping for each time; return who was timed."""
    timed: list[list[str]] = []

    def fake(calls: Calls, *, budget_s: float, clock: object) -> dict[str, Timing]:
        timed.append(list(calls))
        for call in calls.values():
            call()
        quick = len(timed) > 1
        return {
            name: Timing(
                median_s=(1.0 if name == DEVICE else 0.5) / (2 if quick else 1),
                spread_s=0.001 if quick or name != "tail 0" else 0.4,
                rounds=9,
            )
            for name in calls
        }

    monkeypatch.setattr(halves, "time_side_by_side", fake)
    return timed


def test_halves_take_about_as_long_as_the_whole(network: Network, tmp_path: Path) -> None:
    nodes = network.graph.head_of(["b1"])
    found = measure_cuts(network, [nodes], device=ONE, server=ONE, budget_s=0.3, folder=tmp_path)
    (cut,) = found.cuts
    assert (cut.nodes, cut.frontier) == (nodes, ("b1",))
    assert 0.3 < (cut.head.median_s + cut.tail.median_s) / found.device.median_s < 3
    assert found.server == found.device
    assert cut.max_rel_diff <= 1e-4
    assert (tmp_path / "b1" / "head.onnx").is_file()


def test_several_tensors_may_cross(network: Network) -> None:
    """Inside a block the skip crosses beside the main branch."""
    nodes = network.graph.head_of(["b1.a", "down1.relu"])
    (cut,) = measure_cuts(network, [nodes], device=ONE, server=ONE, budget_s=0.1).cuts
    assert set(cut.frontier) == {"b1.a", "down1.relu"}
    assert cut.head.median_s > 0
    assert cut.tail.median_s > 0


def test_memory_of_both_sides(network: Network) -> None:
    nodes = network.graph.head_of(["b1"])
    (cut,) = measure_cuts(network, [nodes], device=ONE, server=ONE, budget_s=0.1).cuts
    weights = sum(len(tensor.raw_data) for tensor in network.original.graph.initializer)
    assert cut.head_memory.weight_bytes + cut.tail_memory.weight_bytes == weights
    assert cut.head_memory.activation_bytes > 0
    assert cut.head_memory.peak_bytes is None


def test_without_cuts_the_whole_is_measured(network: Network) -> None:
    found = measure_cuts(network, [], device=ONE, server=Runner(threads=2), budget_s=0.1)
    assert found.cuts == ()
    assert found.device.median_s > 0
    assert found.server is not found.device


def test_a_set_that_needs_more_is_no_head(network: Network) -> None:
    with pytest.raises(PlanError):
        measure_cuts(network, [{"logits"}], device=ONE, server=ONE, budget_s=0.1)


def test_what_scattered_is_timed_again(network: Network, stopwatch: list[list[str]]) -> None:
    """The machine was twice as fast by then; the whole, timed beside it, says so."""
    nodes = [network.graph.head_of([name]) for name in ("b0", "b1")]
    found = measure_cuts(network, nodes, device=ONE, server=ONE, budget_s=0.1)
    assert stopwatch[1] == [DEVICE, "tail 0"]
    assert [cut.rerun for cut in found.cuts] == [True, False]
    assert found.cuts[0].tail == Timing(median_s=0.5, spread_s=0.002, rounds=9)
    assert found.cuts[0].head.median_s == 0.5


def test_more_cuts_than_fit_take_turns(
    network: Network, stopwatch: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group has its whole: a second group, measured at twice the speed, is brought to the first's."""
    monkeypatch.setattr(halves, "_OPEN_BYTES", 1)
    monkeypatch.setattr(halves, "_SCATTER", 1.0)
    nodes = [network.graph.head_of([name]) for name in ("b0", "b1")]
    found = measure_cuts(network, nodes, device=ONE, server=ONE, budget_s=0.1)
    assert stopwatch == [[DEVICE, "head 0", "tail 0"]] * 2
    assert [cut.frontier for cut in found.cuts] == [("b0",), ("b1",)]
    assert [cut.head.median_s for cut in found.cuts] == [0.5, 0.5]
