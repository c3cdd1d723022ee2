"""Control flow: cut elsewhere, never inside, with everything its bodies capture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_at, extract_halves
from isthmus.partitioner.cutting.parity import check_parity
from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.network.subgraphs import captures, reads
from isthmus.runtime.errors import PlanError

Make = Callable[..., ModelProto]
node = helper.make_node


def value(
    name: str, dims: list[int | str] | None = None, kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", 4] if dims is None else dims)


def constant(name: str, values: object, kind: type[np.generic]) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def branch(kind: str, *sources: str) -> GraphProto:
    """Return a branch that reads `sources` from around it."""
    nodes = [node(kind, list(sources), [f"{kind}.inner"]), node("Sin", [f"{kind}.inner"], [f"{kind}.y"])]
    return helper.make_graph(nodes, kind, [], [value(f"{kind}.y")])


def branching(make: Make) -> ModelProto:
    """x → a; whether a's sum is positive decides what becomes of a and of the weight w; then y."""
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("ReduceSum", ["b"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["positive"]),
        node(
            "If", ["positive"], ["c"], "pick",
            then_branch=branch("Mul", "a", "w"), else_branch=branch("Add", "a", "w"),
        ),
        node("Exp", ["c"], ["y"]),
    ]  # fmt: skip
    weights = [constant("zero", 0, np.float32), constant("w", [1.5, 2, -1, 3], np.float32)]
    return make(nodes, [value("x")], [value("y")], weights)


def looping(make: Make) -> ModelProto:
    """Three times: state ← tanh(state + a), where a comes from around the loop."""
    body = helper.make_graph(
        [
            node("Add", ["state", "a"], ["sum"]),
            node("Tanh", ["sum"], ["next"]),
            node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("state")],
        [value("go_on", [], TensorProto.BOOL), value("next")],
    )
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Sin", ["a"], ["start"]),
        node("Loop", ["three", "yes", "start"], ["end"], "repeat", body=body),
        node("Exp", ["end"], ["y"]),
    ]
    weights = [constant("three", 3, np.int64), constant("yes", True, np.bool_)]
    return make(nodes, [value("x")], [value("y")], weights)


def scanning(make: Make) -> ModelProto:
    """Sum along the second axis with a weight captured from around it."""
    body = helper.make_graph(
        [node("Mul", ["item", "w"], ["scaled"]), node("Add", ["state", "scaled"], ["next"])],
        "body",
        [value("state", ["n"]), value("item", ["n"])],
        [value("next", ["n"])],
    )
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("ReduceMax", ["a", "axis"], ["start"], keepdims=0),
        node("Scan", ["start", "a"], ["end"], "along", body=body, num_scan_inputs=1, scan_input_axes=[1]),
        node("Tanh", ["end"], ["y"]),
    ]
    weights = [constant("w", 0.5, np.float32), constant("axis", [1], np.int64)]
    return make(nodes, [value("x")], [value("y", ["n"])], weights, opset=18)


def load(model: ModelProto, tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    return load_network(path)


@pytest.mark.parametrize("make_model", [branching, looping, scanning])
def test_it_is_cut_around_with_what_it_captures(
    make_onnx: Make, tmp_path: Path, make_model: Callable[[Make], ModelProto]
) -> None:
    network = load(make_model(make_onnx), tmp_path)
    keys = [item.key for item in network.graph.nodes]
    assert len(keys) == len(network.original.graph.node)
    for count in range(1, len(keys)):
        halves = extract_at(network, keys[:count])
        assert check_parity(network, halves).max_rel_diff <= 1e-6
    assert network.graph.nodes[1].inputs[0] == "a"


def test_what_a_branch_captures_crosses(make_onnx: Make, tmp_path: Path) -> None:
    network = load(branching(make_onnx), tmp_path)
    assert network.graph.frontier_of({"a", "b", "sum", "positive"}) == ("a", "positive")
    halves = extract_halves(network, ["a", "positive"])
    assert [entry.name for entry in halves.tail.graph.input] == ["a", "positive"]
    # The weight is read by the branches alone.
    assert [tensor.name for tensor in halves.tail.graph.initializer] == ["w"]
    with pytest.raises(PlanError, match="leaves a way around it through 'a'; cut there too"):
        extract_halves(network, ["positive"])


def test_nothing_is_cut_inside(make_onnx: Make, tmp_path: Path) -> None:
    network = load(branching(make_onnx), tmp_path)
    with pytest.raises(PlanError) as caught:
        extract_halves(network, ["Mul.inner"])
    assert str(caught.value) == (
        "m.onnx: tensor 'Mul.inner' is inside control flow, which is not cut; cut before or after 'c'"
    )
    loop = load(looping(make_onnx), tmp_path)
    assert loop.enclosed["state"] == "end"


def test_notes_inside_a_branch_are_stripped(make_onnx: Make, tmp_path: Path) -> None:
    model = branching(make_onnx)
    inner = model.graph.node[4].attribute[0].g
    inner.doc_string = inner.node[0].doc_string = "/home/somebody"
    network = load(model, tmp_path)
    assert b"somebody" not in extract_halves(network, ["a", "positive"]).tail.SerializeToString()


def test_captures_of_bodies_within_bodies() -> None:
    inner = branch("Add", "p", "outer_b")
    middle = helper.make_graph(
        [node("Neg", ["outer_a"], ["p"]), node("If", ["flag"], ["q"], then_branch=inner, else_branch=inner)],
        "middle",
        [],
        [value("q"), value("outer_c")],
    )
    assert captures(middle) == ["outer_a", "flag", "outer_b", "outer_c"]
    around = node("If", ["cond", ""], ["y"], then_branch=middle, else_branch=inner)
    assert reads(around)[0] == "cond"
    assert sorted(reads(around)[1:]) == ["flag", "outer_a", "outer_b", "outer_c", "p"]


def test_a_sequence_between_nodes_does_not_cross(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("SequenceConstruct", ["a", "x"], ["both"]),
        node("ConcatFromSequence", ["both"], ["joined"], axis=1),
        node("Sin", ["joined"], ["y"]),
    ]
    network = load(make_onnx(nodes, [value("x")], [value("y", ["n", 8])]), tmp_path)
    with pytest.raises(PlanError) as caught:
        extract_halves(network, ["both"])
    assert str(caught.value) == (
        "m.onnx: tensor 'both' holds a value of type sequence, which cannot cross; cut elsewhere"
    )
    for cut in (["a", "x"], ["joined"]):
        assert check_parity(network, extract_halves(network, cut)).max_abs_diff == 0


def test_strings_do_not_cross(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Sign", ["x"], ["a"]),
        node("Cast", ["a"], ["text"], to=TensorProto.STRING),
        node("Cast", ["text"], ["y"], to=TensorProto.FLOAT),
    ]
    network = load(make_onnx(nodes, [value("x")], [value("y")]), tmp_path)
    assert network.graph.tensors["text"].dtype == "string"
    with pytest.raises(PlanError, match=r"^m\.onnx: tensor 'text' holds strings, which cannot cross; "):
        extract_halves(network, ["text"])
    assert check_parity(network, extract_halves(network, ["a"])).max_abs_diff == 0


def test_half_precision_of_the_other_kind_does_not_cross(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Sin", ["x"], ["a"]),
        node("Cast", ["a"], ["brain"], to=TensorProto.BFLOAT16),
        node("Cast", ["brain"], ["y"], to=TensorProto.FLOAT),
    ]
    network = load(make_onnx(nodes, [value("x")], [value("y")]), tmp_path)
    assert network.graph.tensors["brain"].nbytes == 8
    with pytest.raises(PlanError, match="tensor 'brain' holds a value of type bfloat16, which cannot cross"):
        extract_halves(network, ["brain"])
