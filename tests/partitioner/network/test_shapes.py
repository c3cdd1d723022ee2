from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_halves
from isthmus.partitioner.cutting.parity import check_parity
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import PlanError


def const(name: str, values: list[int]) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def flattening_model(make_onnx: Callable[..., ModelProto], batch: int | str) -> ModelProto:
    """x → relu → reshape to [shape(x)[0], -1], the way exporters write `x.view(x.size(0), -1)`."""
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["relu", "target"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 60])
    zero = numpy_helper.from_array(np.asarray(0, np.int64), "zero")
    return make_onnx(nodes, [x], [y], [zero, const("axes", [0]), const("rest", [-1])])


@pytest.mark.parametrize("batch", ["n", 1])
def test_shape_branch_does_not_hide_cuts(
    make_onnx: Callable[..., ModelProto], tmp_path: Path, batch: int | str
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(flattening_model(make_onnx, batch), path)
    network = load_network(path)
    assert [cut.tensor for cut in network.graph.interior_cuts()] == ["relu", "flat"]
    assert network.graph.tensors["relu"].shape == (1, 3, 4, 5)
    assert network.graph.tensors["flat"].nbytes == 240
    assert network.dynamic_batch == (batch == "n")
    # The folded graph answers like the original, at every batch it takes.
    for count in (1, 4) if batch == "n" else (1,):
        x = np.random.default_rng(0).standard_normal((count, 3, 4, 5)).astype(np.float32)
        folded, original = (
            onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
            for model in (network.proto, network.original)
        )
        np.testing.assert_array_equal(folded, original)


def test_tensors_are_declared_with_the_batch_by_name(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(flattening_model(make_onnx, "n"), path)
    declared = {
        value.name: value.type.tensor_type.shape for value in load_network(path).proto.graph.value_info
    }
    assert [dim.dim_param or dim.dim_value for dim in declared["flat"].dim] == ["n", 60]


def test_a_shape_that_follows_the_batch_in_two_places_is_kept(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    """x·xᵀ is [n, n]: no constant target reshapes it, so the branch stays a real bypass."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["gram"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "twice"], ["target"], axis=0),
        helper.make_node("Relu", ["gram"], ["relu"]),
        helper.make_node("Reshape", ["relu", "target"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "n"])
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y], [const("twice", [0, 0])]), path)
    assert load_network(path).graph.interior_cuts() == []


def test_unknown_shapes_are_said_to_be_unknown(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["y"], to=TensorProto.FLOAT),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, None])
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y]), path)
    network = load_network(path)
    fact = network.graph.tensors["places"]
    assert (fact.dtype, fact.shape, fact.nbytes, fact.elements) == ("int64", None, None, 0)
    with pytest.raises(PlanError, match="tensor 'places' has no fixed size, so it cannot cross"):
        extract_halves(network, ["places"])


def test_shapes_that_inference_leaves_open_are_observed(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    """The target is computed in floats, which no inference follows: [n, 6] becomes [n, 2, 3]."""
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Concat", ["whole", "three"], ["target"], axis=0),
        helper.make_node("Reshape", ["relu", "target"], ["cube"]),
        helper.make_node("Neg", ["cube"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 3])
    scale = numpy_helper.from_array(np.asarray([1, 1 / 3], np.float32), "scale")
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y], [scale, const("three", [3])]), path)
    network = load_network(path)
    assert [cut.tensor for cut in network.graph.interior_cuts()] == ["relu", "cube"]
    assert network.graph.tensors["cube"].shape == (1, 2, 3)
    assert check_parity(network, extract_halves(network, ["relu"])).max_abs_diff == 0
