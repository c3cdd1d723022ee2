from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from isthmus.partitioner.costs.nodes import measure_costs
from isthmus.partitioner.cutting.cut import extract_halves
from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.running.execution import (
    clock_for,
    open_session,
    random_feed,
    session_options,
    time_side_by_side,
)


@pytest.fixture(scope="module")
def mid_size(residual_model: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mid.onnx"
    onnx.save(residual_model(blocks=6, channels=16, size=32), path)
    return path


def test_measured_node_costs_add_up_to_the_whole(mid_size: Path) -> None:
    network = load_network(mid_size)
    table = measure_costs(network, threads=1, budget_s=0.5, anchors=0)
    assert set(table.node_s) == {node.key for node in network.graph.nodes}
    assert sum(table.node_s.values()) == pytest.approx(table.whole_s, rel=1e-9)
    # The profiler accounts for most of the time; a busy host may slow either of the two runs.
    assert 0.3 < table.kernel_sum_s / table.whole_s < 3
    convolutions = sum(table.node_s[node.key] for node in network.graph.nodes if node.op == "Conv")
    assert convolutions > 0.6 * table.whole_s
    assert table.source == "measured"
    assert table.threads == 1
    assert table.clock == "cpu"
    assert table.backend.startswith("ONNX Runtime")
    assert table.model == mid_size.name
    assert set(table.work) == set(table.node_s)
    assert table.anchors == ()


def test_anchors_are_real_halves(mid_size: Path) -> None:
    network = load_network(mid_size)
    table = measure_costs(network, threads=1, budget_s=1.0, anchors=3)
    cuts = {cut.tensor: cut.head_nodes for cut in network.graph.interior_cuts()}
    keys = [node.key for node in network.graph.nodes]
    assert {anchor.tensor for anchor in table.anchors} <= set(cuts)
    assert [anchor.before for anchor in table.anchors] == sorted(anchor.before for anchor in table.anchors)
    # Parity is not at stake here, but a half that took no time would be no half.
    for anchor in table.anchors:
        inside = keys[: cuts[anchor.tensor]]
        nodes_s = sum(table.node_s[key] for key in inside)
        assert anchor.before == pytest.approx(nodes_s / table.whole_s)
        assert table.head_s(inside) == pytest.approx(max(nodes_s + anchor.head_extra_s, 0.1 * nodes_s))


def test_predicted_halves_are_near_the_measured_ones(mid_size: Path) -> None:
    """Shares, not seconds: the machine may be busier at one of the two moments."""
    network = load_network(mid_size)
    table = measure_costs(network, threads=1, budget_s=0.5)
    keys = [node.key for node in network.graph.nodes]
    anchors = {anchor.tensor for anchor in table.anchors}
    cut = next(
        cut
        for cut in network.graph.interior_cuts()
        if cut.tensor not in anchors and table.head_s(keys[: cut.head_nodes]) > 0.4 * table.whole_s
    )
    halves = extract_halves(network, [cut.tensor])
    rng = np.random.default_rng(0)
    calls = {}
    for name, half in (("head", halves.head), ("tail", halves.tail)):
        session = open_session(half, name, session_options(1))
        feed = random_feed([network.shapes.fact(value.name) for value in half.graph.input], rng)
        calls[name] = lambda session=session, feed=feed: session.run(None, feed)
    timings = time_side_by_side(calls, budget_s=0.5, clock=clock_for(1))
    head, tail = timings["head"].median_s, timings["tail"].median_s
    inside, behind = keys[: cut.head_nodes], keys[cut.head_nodes :]
    predicted = table.head_s(inside) / (table.head_s(inside) + table.tail_s(behind))
    assert head / (head + tail) == pytest.approx(predicted, abs=0.15)
