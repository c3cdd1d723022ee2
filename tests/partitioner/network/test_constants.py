from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_halves
from isthmus.partitioner.cutting.parity import check_parity
from isthmus.partitioner.network.model import Network, load_network

Make = Callable[..., ModelProto]
node = helper.make_node


def load(make: Make, tmp_path: Path, nodes: list[NodeProto], weights: list[TensorProto] = ()) -> Network:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    path = tmp_path / "m.onnx"
    onnx.save(make(nodes, [x], [y], weights), path)
    return load_network(path)


def constants(network: Network) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in network.proto.graph.initializer}


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value": numpy_helper.from_array(np.asarray([1, 2, 3, 4], np.float32))}, [1, 2, 3, 4]),
        ({"value_float": 2.5}, 2.5),
        ({"value_floats": [1.0, 2, 3, 4]}, [1, 2, 3, 4]),
    ],
)
def test_constant_nodes_are_weights(
    make_onnx: Make, tmp_path: Path, attribute: dict[str, object], expected: object
) -> None:
    nodes = [
        node("Constant", [], ["k"], **attribute),
        node("Mul", ["x", "k"], ["a"]),
        node("Sin", ["a"], ["y"]),
    ]
    network = load(make_onnx, tmp_path, nodes)
    assert [item.op_type for item in network.proto.graph.node] == ["Mul", "Sin"]
    np.testing.assert_array_equal(constants(network)["k"], np.asarray(expected, np.float32))
    halves = extract_halves(network, ["a"])
    assert not halves.tail.graph.initializer
    assert check_parity(network, halves).max_abs_diff == 0


def test_whole_numbers_are_int64(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["shape"], value_ints=[-1, 2, 2]),
        node("Constant", [], ["axis"], value_int=0),
        node("Reshape", ["x", "shape"], ["a"]),
        node("CumSum", ["a", "axis"], ["b"]),
        node("Flatten", ["b"], ["y"]),
    ]
    network = load(make_onnx, tmp_path, nodes)
    assert {name: value.dtype.name for name, value in constants(network).items()} == {
        "shape": "int64",
        "axis": "int64",
    }
    assert network.graph.tensors["a"].shape == (1, 2, 2)


def test_arithmetic_on_constants_is_done_once(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["two"], value_float=2.0),
        node("Mul", ["w", "two"], ["scaled"]),
        node("Transpose", ["scaled"], ["turned"]),
        node("MatMul", ["x", "turned"], ["a"]),
        node("MatMul", ["a", "turned"], ["y"]),
    ]
    values = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    network = load(make_onnx, tmp_path, nodes, [numpy_helper.from_array(values, "w")])
    assert [item.op_type for item in network.proto.graph.node] == ["MatMul", "MatMul"]
    np.testing.assert_array_equal(constants(network)["turned"], 2 * values.T)
    halves = extract_halves(network, ["a"])
    # Both halves need it and have it, each once; what it was made from is in neither.
    for half in (halves.head, halves.tail):
        assert [tensor.name for tensor in half.graph.initializer] == ["turned"]
    assert check_parity(network, halves).max_rel_diff <= 1e-6


def test_what_would_grow_or_differ_each_time_stays(make_onnx: Make, tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(-90, 90, (1, 4)).astype(np.int8)
    weights = [
        numpy_helper.from_array(codes, "codes"),
        numpy_helper.from_array(np.float32(0.02), "scale"),
        numpy_helper.from_array(np.asarray([200, 200], np.int64), "large"),
        numpy_helper.from_array(np.asarray([0, 0], np.int64), "begin"),
        numpy_helper.from_array(np.asarray([1, 4], np.int64), "end"),
    ]
    nodes = [
        node("DequantizeLinear", ["codes", "scale"], ["w"]),
        node("Mul", ["x", "w"], ["a"]),
        node("ConstantOfShape", ["large"], ["zeros"]),
        node("Slice", ["zeros", "begin", "end"], ["row"]),
        node("Add", ["a", "row"], ["b"]),
        node("RandomNormalLike", ["row"], ["noise"]),
        node("Mul", ["noise", "row"], ["nothing"]),
        node("Add", ["b", "nothing"], ["y"]),
    ]
    network = load(make_onnx, tmp_path, nodes, weights)
    kept = [item.op_type for item in network.proto.graph.node]
    assert {"DequantizeLinear", "ConstantOfShape", "RandomNormalLike"} <= {*kept}
    assert check_parity(network, extract_halves(network, ["a"])).max_abs_diff == 0


def test_a_constant_output_is_made_by_the_tail(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Sin", ["x"], ["a"]),
        node("Cos", ["a"], ["y"]),
        node("Neg", ["w"], ["anchors"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    anchors, w = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("anchors", "w"))
    path = tmp_path / "m.onnx"
    weights = [numpy_helper.from_array(np.asarray([1, 2, 3], np.float32), "w")]
    onnx.save(make_onnx(nodes, [x], [y, anchors, w], weights), path)
    network = load_network(path)
    halves = extract_halves(network, ["a"])
    assert [entry.name for entry in halves.tail.graph.output] == ["y", "anchors", "w"]
    assert check_parity(network, halves).max_abs_diff == 0
