from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.network.graph import FlowGraph, FlowNode
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import InputError, PlanError


def flow(inputs: str, outputs: str, *nodes: str) -> FlowGraph:
    """Make a graph from lines like "a b -> c d"."""
    parsed = []
    for line in nodes:
        reads, makes = (tuple(side.split()) for side in line.split("->"))
        parsed.append(FlowNode(key=makes[0], op="Op", inputs=reads, outputs=makes))
    names = {*inputs.split(), *(name for node in parsed for name in node.outputs)}
    facts = {name: TensorFact(name=name, dtype="float32", shape=(1,), nbytes=4) for name in sorted(names)}
    return FlowGraph.build(inputs.split(), outputs.split(), parsed, facts)


def cuts(graph: FlowGraph) -> list[str]:
    return [cut.tensor for cut in graph.interior_cuts()]


def test_chain_can_be_cut_anywhere() -> None:
    graph = flow("x", "c", "x -> a", "a -> b", "b -> c")
    assert cuts(graph) == ["a", "b"]
    assert [(cut.tensor, cut.head_nodes) for cut in graph.single_tensor_cuts()] == [
        ("x", 0),
        ("a", 1),
        ("b", 2),
        ("c", 3),
    ]


def test_residual_bypass_forbids_cuts_inside_the_block() -> None:
    graph = flow("x", "y", "x -> a", "a -> b", "b -> c", "c a -> s", "s -> y")
    assert cuts(graph) == ["a", "s"]
    assert graph.bypasses(["b"]) == ["a"]


def test_two_inputs_must_have_merged() -> None:
    graph = flow("x z", "y", "x -> a", "a z -> m", "m -> y")
    assert cuts(graph) == ["m"]
    assert sorted(graph.bypasses(["a"])) == ["z"]


def test_two_outputs_must_not_have_parted() -> None:
    assert cuts(flow("x", "p q", "x -> a", "a -> b", "b -> p", "b -> q")) == ["a", "b"]


def test_an_output_that_is_read_on_is_a_cut_when_everything_passes_it() -> None:
    assert cuts(flow("x", "a y", "x -> a", "a -> b", "b -> y")) == ["a"]


def test_two_outputs_of_one_node_that_are_both_needed_are_no_cut() -> None:
    assert cuts(flow("x", "y", "x -> a b", "a b -> c", "c -> y")) == ["c"]
    # … but one of them is, if nobody reads the other.
    assert cuts(flow("x", "y", "x -> a b", "a -> c", "c -> y")) == ["a", "c"]


def test_dead_branches_and_constants_are_no_data_flow() -> None:
    graph = flow("x unused", "y", "k -> w", "x w -> a", "a -> dead", "dead unused -> deader", "a -> y")
    assert graph.inputs == ("x",)
    assert [node.key for node in graph.nodes] == ["a", "y"]
    assert graph.nodes[0].inputs == ("x",)
    assert cuts(graph) == ["a"]


def test_require_cut_names_what_is_wrong() -> None:
    graph = flow("x", "y", "x -> a", "a -> b", "b a -> y")
    graph.require_cut(["a"], "m.onnx")
    graph.require_cut(["a", "b"], "m.onnx")
    with pytest.raises(
        PlanError, match=r"^m\.onnx: no tensor 'A' in its data flow; it can be cut at e\.g\. a$"
    ):
        graph.require_cut(["A"], "m.onnx")
    with pytest.raises(
        PlanError, match=r"^m\.onnx: cutting at 'b' leaves a way around it through 'a'; cut there too$"
    ):
        graph.require_cut(["b"], "m.onnx")


def passes_without(model: ModelProto, removed: set[str]) -> bool:
    """Say whether an output can still be reached from an input when the tensors `removed` are taken away."""
    reached = {value.name for value in model.graph.input} - removed
    for node in model.graph.node:
        if not reached.isdisjoint(node.input):
            reached.update(set(node.output) - removed)
    return any(value.name in reached for value in model.graph.output)


def test_single_tensor_cuts_equal_brute_force_on_random_graphs(
    random_dag: Callable[[np.random.Generator], ModelProto], tmp_path: Path
) -> None:
    compared = with_interior = without = 0
    for seed in range(260):
        model = random_dag(np.random.default_rng(seed))
        path = tmp_path / "dag.onnx"
        onnx.save(model, path)
        if not passes_without(model, set()):
            with pytest.raises(InputError, match="no output depends on an input"):
                load_network(path)
            continue
        graph = load_network(path).graph
        tensors = {value.name for value in model.graph.input}
        tensors |= {name for node in model.graph.node for name in node.output}
        expected = {name for name in tensors if not passes_without(model, {name})}
        found = graph.single_tensor_cuts()
        assert {cut.tensor for cut in found} == expected, seed
        assert all(not graph.bypasses([name]) for name in expected), seed
        for cut in found:
            before = ancestors(graph, cut.tensor)
            assert [node.key for node in graph.nodes[: cut.head_nodes]] == before, (seed, cut)
        compared += 1
        with_interior += bool(graph.interior_cuts())
        without += not graph.interior_cuts()
    assert compared >= 200
    # The generator makes both kinds, or the comparison would be empty.
    assert with_interior > 30
    assert without > 30


def ancestors(graph: FlowGraph, tensor: str) -> list[str]:
    needed = {tensor}
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
    return [node.key for node in graph.nodes if not needed.isdisjoint(node.outputs)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_bypasses_are_what_else_leaves_the_head(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    names, lines = ["x"], []
    for index in range(6):
        reads = rng.choice(names, size=min(len(names), int(rng.integers(1, 3))), replace=False)
        lines.append(f"{' '.join(reads)} -> t{index}")
        names.append(f"t{index}")
    graph = flow("x", "t5 t4", *lines)
    frontier = {str(name) for name in rng.choice(sorted(graph.tensors), size=size)}
    head = {key for name in frontier for key in ancestors(graph, name)}
    inside = {name for node in graph.nodes if node.key in head for name in node.outputs} | set(graph.inputs)
    read_behind = {name for node in graph.nodes if node.key not in head for name in node.inputs}
    assert set(graph.bypasses(frontier)) == (inside & read_behind) - frontier


def test_an_output_made_on_the_device_does_not_cross() -> None:
    graph = flow("x", "early y", "x -> a", "a -> early", "a -> b", "b -> y")
    assert graph.frontier_of({"a", "early"}) == ("a",)
    assert graph.frontier_of({"a", "early", "b"}) == ("b",)
    # … but it does if the rest reads it.
    chained = flow("x", "early y", "x -> early", "early -> b", "b -> y")
    assert chained.frontier_of({"early"}) == ("early",)
    # Cutting at b alone leaves `early` to the device, or a would cross as well.
    assert graph.head_of(["b"]) == {"a", "early", "b"}
    graph.require_cut(["b"], "m.onnx")


def test_an_input_that_the_tail_reads_crosses() -> None:
    graph = flow("x z", "y", "x -> a", "a z -> y")
    assert graph.frontier_of({"a"}) == ("z", "a")
    assert graph.head_of(["a", "z"]) == {"a"}


def test_a_set_of_nodes_must_hold_what_it_needs() -> None:
    graph = flow("x", "y", "x -> a", "a -> b", "b -> y")
    graph.require_closed({"a", "b"}, "m.onnx")
    with pytest.raises(PlanError) as caught:
        graph.require_closed({"b"}, "m.onnx")
    assert str(caught.value) == (
        "m.onnx: the node that makes 'b' is on the device and reads 'a', which is made on the server; "
        "put both on one side"
    )
    with pytest.raises(PlanError, match=r"^m\.onnx: no node of its data flow has the key 'B'; "):
        graph.require_closed({"a", "B"}, "m.onnx")


@given(st.integers(0, 2**32 - 1))
def test_the_frontier_of_a_closed_set_leads_back_to_a_head_with_that_frontier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, lines = ["x", "z"], []
    for index in range(9):
        reads = rng.choice(names, size=min(len(names), int(rng.integers(1, 4))), replace=False)
        made = [f"t{index}"] + [f"u{index}"] * int(rng.integers(0, 2))
        lines.append(f"{' '.join(reads)} -> {' '.join(made)}")
        names += made
    graph = flow("x z", f"t8 t7 {rng.choice(names[2:])}", *lines)
    maker = {name: node for node in graph.nodes for name in node.outputs}
    chosen: set[str] = set()
    for node in graph.nodes:
        if rng.random() < 0.6 and all(maker[name].key in chosen for name in node.inputs if name in maker):
            chosen.add(node.key)
    graph.require_closed(chosen, "m.onnx")
    frontier = graph.frontier_of(chosen)
    head = graph.head_of(frontier)
    graph.require_closed(head, "m.onnx")
    assert head <= chosen
    assert graph.frontier_of(head) == frontier
    if len(chosen) < len(graph.nodes):
        graph.require_cut(frontier, "m.onnx")
