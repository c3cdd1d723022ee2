import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from isthmus.partitioner.costs import Kernel, measure_costs, share_kernels
from isthmus.partitioner.cut import extract_halves
from isthmus.partitioner.execution import (
    clock_for,
    open_session,
    random_feed,
    session_options,
    time_side_by_side,
)
from isthmus.partitioner.graph import FlowNode
from isthmus.partitioner.model import load_network


def node(key: str, *reads: str) -> FlowNode:
    return FlowNode(key=key, op="Op", inputs=reads, outputs=(key,))


def kernel(makes: str, reads: str, seconds: float, stands_for: str | None = None) -> Kernel:
    known = makes if stands_for is None else stands_for
    return Kernel(
        makes=tuple(makes.split()),
        reads=tuple(reads.split()),
        stands_for=tuple(known.split()),
        seconds=seconds,
    )


def test_a_kernel_per_node_is_that_nodes_time() -> None:
    nodes = [node("a", "x"), node("b", "a")]
    shares = share_kernels(nodes, [kernel("a", "x", 3.0), kernel("b", "a", 1.0)], {"a": 9.0, "b": 9.0})
    assert shares == {"a": 3.0, "b": 1.0}


def test_a_fused_kernel_is_shared_like_the_unfused_times() -> None:
    nodes = [node("conv", "x"), node("relu", "conv"), node("y", "relu")]
    shares = share_kernels(
        nodes, [kernel("relu", "x", 4.0), kernel("y", "relu", 1.0)], {"conv": 9.0, "relu": 3.0, "y": 5.0}
    )
    assert shares == {"conv": 3.0, "relu": 1.0, "y": 1.0}


def test_layout_kernels_belong_to_the_tensor_they_lead_to() -> None:
    """x → reorder → blocked conv → reorder back → y, as on a CPU with a blocked layout."""
    nodes = [node("conv", "x"), node("y", "conv")]
    kernels = [
        kernel("r0", "x", 0.5, stands_for="r0"),
        kernel("r1", "r0", 4.0, stands_for="conv r1"),
        kernel("r2", "r1", 0.25, stands_for="r2"),
        kernel("y", "r2", 1.0),
    ]
    assert share_kernels(nodes, kernels, {}) == {"conv": 4.5, "y": 1.25}


def test_nodes_that_vanished_cost_nothing_of_their_own() -> None:
    """An identity that the optimiser removed shares its reader's kernel, in which it weighs nothing."""
    nodes = [node("a", "x"), node("identity", "a"), node("y", "identity")]
    shares = share_kernels(nodes, [kernel("a", "x", 2.0), kernel("y", "a", 3.0)], {"a": 1.0, "y": 1.0})
    assert shares == {"a": 2.0, "identity": 0.0, "y": 3.0}


def test_no_time_is_lost_or_invented_on_a_bypass() -> None:
    nodes = [node("a", "x"), node("b", "a"), node("c", "b"), node("sum", "c", "a"), node("y", "sum")]
    kernels = [
        kernel("a", "x", 1.0),
        kernel("b", "a", 2.0),
        kernel("sum", "b a", 4.0),
        kernel("y", "sum", 8.0),
    ]
    shares = share_kernels(nodes, kernels, {"c": 3.0, "sum": 1.0})
    assert shares == {"a": 1.0, "b": 2.0, "c": 3.0, "sum": 1.0, "y": 8.0}


@pytest.fixture(scope="module")
def mid_size(residual_model: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mid.onnx"
    onnx.save(residual_model(blocks=6, channels=16, size=32), path)
    return path


def test_measured_node_costs_add_up_to_the_whole(mid_size: Path) -> None:
    network = load_network(mid_size)
    table = measure_costs(network, threads=1, budget_s=0.5)
    assert set(table.node_s) == {node.key for node in network.graph.nodes}
    assert sum(table.node_s.values()) == pytest.approx(table.whole_s, rel=1e-9)
    # The profiler accounts for most of the time; a busy host may slow either of the two runs.
    assert 0.3 < table.kernel_sum_s / table.whole_s < 3
    convolutions = sum(table.node_s[node.key] for node in network.graph.nodes if node.op == "Conv")
    assert convolutions > 0.6 * table.whole_s
    assert table.threads == 1
    assert table.backend.startswith("ONNX Runtime")


def test_predicted_halves_are_near_the_measured_ones(mid_size: Path) -> None:
    """Shares, not seconds: the machine may be busier at one of the two moments."""
    network = load_network(mid_size)
    table = measure_costs(network, threads=1, budget_s=0.5)
    before = [0.0, *itertools.accumulate(table.node_s[node.key] for node in network.graph.nodes)]
    cut = next(cut for cut in network.graph.interior_cuts() if before[cut.head_nodes] > 0.4 * table.whole_s)
    halves = extract_halves(network, [cut.tensor])
    rng = np.random.default_rng(0)
    calls = {}
    for name, half in (("head", halves.head), ("tail", halves.tail)):
        session = open_session(half, name, session_options(1))
        feed = random_feed([network.shapes.fact(value.name) for value in half.graph.input], rng)
        calls[name] = lambda session=session, feed=feed: session.run(None, feed)
    timings = time_side_by_side(calls, budget_s=0.5, clock=clock_for(1))
    head, tail = timings["head"].median_s, timings["tail"].median_s
    assert head / (head + tail) == pytest.approx(before[cut.head_nodes] / table.whole_s, abs=0.15)
