from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_at, extract_halves
from isthmus.partitioner.cutting.parity import check_parity, run_whole
from isthmus.partitioner.network.model import Network, load_network
from isthmus.runtime.errors import GateError, InputError

Make = Callable[..., ModelProto]
node = helper.make_node


def test_parity_sees_a_wrong_tail(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["b0"])
    wrong = ModelProto()
    wrong.CopyFrom(halves.tail)
    weight = next(w for w in wrong.graph.initializer if w.name == "fc.b")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.05), "fc.b"))
    with pytest.raises(GateError, match=r"head and tail differ from the whole by .* do not use this cut"):
        check_parity(network, replace(halves, tail=wrong))
    assert check_parity(network, replace(halves, tail=wrong), tolerance=1.0).max_abs_diff == pytest.approx(
        0.05, rel=1e-3
    )


def test_parity_refuses_to_prove_anything_about_constant_outputs(
    residual_model: Callable[..., ModelProto], tmp_path: Path
) -> None:
    model = residual_model()
    weight = next(w for w in model.graph.initializer if w.name == "fc.w")
    weight.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(weight)), "fc.w"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    network = load_network(path)
    with pytest.raises(GateError, match="its outputs are the same for different inputs"):
        check_parity(network, extract_halves(network, ["b0"]))


def test_parity_refuses_outputs_that_are_not_finite(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Log", ["a"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y]), path)
    network = load_network(path)
    with pytest.raises(GateError, match="is not finite"):
        check_parity(network, extract_halves(network, ["a"]))


def test_real_inputs_are_compared_as_well(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["b0"])
    image = np.full((1, 3, 8, 8), 0.5, np.float32)
    assert check_parity(network, halves, real=[{"image": image}]).feeds == 4
    with pytest.raises(InputError, match="ONNX Runtime cannot run it"):
        check_parity(network, halves, real=[{"image": image[:, :2]}])


def load(model: ModelProto, tmp_path: Path) -> Network:
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    return load_network(path)


def value(name: str, dims: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def test_one_run_of_the_whole_serves_many_cuts(residual_file: Path) -> None:
    network = load_network(residual_file)
    reference = run_whole(network, real=[{"image": np.full((1, 3, 8, 8), 0.5, np.float32)}])
    assert [len(feed["image"]) for feed in reference.feeds] == [1, 1, 1, 3]
    for cut in ("b0", "b1"):
        halves = extract_halves(network, [cut])
        found = check_parity(network, halves, reference=reference)
        assert found.feeds == 4
        assert found == check_parity(
            network, halves, real=[{"image": np.full((1, 3, 8, 8), 0.5, np.float32)}]
        )


def test_an_output_that_hardly_depends_on_the_input_proves_nothing(make_onnx: Make, tmp_path: Path) -> None:
    """A fresh network answers its bias and a breath of the input; any tail would pass."""
    weights = [
        numpy_helper.from_array(np.asarray(1e-6, np.float32), "small"),
        numpy_helper.from_array(np.asarray(1, np.float32), "bias"),
    ]
    nodes = [node("Sin", ["x"], ["a"]), node("Mul", ["a", "small"], ["b"]), node("Add", ["b", "bias"], ["y"])]
    network = load(make_onnx(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], weights), tmp_path)
    with pytest.raises(GateError, match="its outputs are the same for different inputs"):
        check_parity(network, extract_halves(network, ["a"]))


def test_what_the_tail_answers_must_vary_not_what_the_head_does(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        node("Sin", ["x"], ["early"]),
        node("Mul", ["early", "zero"], ["dead"]),
        node("Cos", ["dead"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.asarray(0, np.float32), "zero")
    ends = [value("early", ["n", 4]), value("y", ["n", 4])]
    network = load(make_onnx(nodes, [value("x", ["n", 4])], ends, [zero]), tmp_path)
    with pytest.raises(GateError, match="its outputs are the same for different inputs"):
        check_parity(network, extract_halves(network, ["dead"]))


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [(TensorProto.FLOAT16, 16 * 2.0**-10), (TensorProto.DOUBLE, 1e-4), (TensorProto.FLOAT, 1e-4)],
)
def test_half_precision_may_round(make_onnx: Make, tmp_path: Path, kind: int, allowed: float) -> None:
    rng = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = [
        numpy_helper.from_array((rng.standard_normal((16, 16)) / 4).astype(dtype), f"w{index}")
        for index in range(3)
    ]
    nodes = [node("MatMul", [f"t{index}", f"w{index}"], [f"t{index + 1}"]) for index in range(3)]
    network = load(
        make_onnx(nodes, [value("t0", ["n", 16], kind)], [value("t3", ["n", 16], kind)], weights), tmp_path
    )
    halves = extract_halves(network, ["t1"])
    assert check_parity(network, halves).max_rel_diff <= allowed
    wrong = ModelProto()
    wrong.CopyFrom(halves.tail)
    last = wrong.graph.initializer[-1]
    last.CopyFrom(
        numpy_helper.from_array((numpy_helper.to_array(last) * (1 + 3 * allowed)).astype(dtype), last.name)
    )
    with pytest.raises(GateError, match=f"more than {allowed:.2g}"):
        check_parity(network, replace(halves, tail=wrong))


def test_whole_numbers_and_truths_are_compared(make_onnx: Make, tmp_path: Path) -> None:
    """Several inputs and outputs of several types; what crosses is int64 and bool as well."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("Mul", ["rows", "x"], ["scaled"]),
        node("ArgMax", ["scaled"], ["best"], axis=-1, keepdims=0),
        node("Add", ["best", "ids"], ["score"]),
        node("Where", ["keep", "scaled", "zero"], ["kept"]),
        node("Greater", ["kept", "zero"], ["positive"]),
        node("ReduceMax", ["kept"], ["top"], axes=[-1], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32), "table"),
        numpy_helper.from_array(np.asarray(0, np.float32), "zero"),
    ]
    inputs = [
        value("ids", ["n", 3], TensorProto.INT64),
        value("x", ["n", 3, 4]),
        value("keep", ["n", 3, 4], TensorProto.BOOL),
    ]
    outputs = [
        value("score", ["n", 3], TensorProto.INT64),
        value("positive", ["n", 3, 4], TensorProto.BOOL),
        value("top", ["n", 3]),
    ]
    network = load(make_onnx(nodes, inputs, outputs, weights, opset=13), tmp_path)
    halves = extract_at(network, {"rows", "scaled", "best"})
    assert halves.frontier == ("ids", "keep", "scaled", "best")
    assert [entry.name for entry in halves.head.graph.input] == ["ids", "x"]
    assert check_parity(network, halves).max_abs_diff == 0
    flipped = ModelProto()
    flipped.CopyFrom(halves.tail)
    next(item for item in flipped.graph.node if item.op_type == "Greater").op_type = "Less"
    with pytest.raises(GateError, match="differ from the whole by 1 of the largest output"):
        check_parity(network, replace(halves, tail=flipped))
    flipped.CopyFrom(halves.tail)
    next(item for item in flipped.graph.node if item.op_type == "Add").op_type = "Sub"
    with pytest.raises(GateError, match="differ from the whole"):
        check_parity(network, replace(halves, tail=flipped))


def test_an_answer_of_another_type_or_shape_is_refused(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["flat"])
    wide = ModelProto()
    wide.CopyFrom(halves.tail)
    wide.graph.node[-1].output[0] = "narrow"
    wide.graph.node.append(node("Cast", ["narrow"], ["logits"], to=TensorProto.DOUBLE))
    wide.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(GateError, match="is of type float64 from the halves, float32 from the whole"):
        check_parity(network, replace(halves, tail=wide))
    longer = ModelProto()
    longer.CopyFrom(halves.tail)
    longer.graph.node[-1].output[0] = "once"
    longer.graph.node.append(node("Concat", ["once", "once"], ["logits"], axis=1))
    longer.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10
    with pytest.raises(GateError, match=r"has shape \(1, 10\) from the halves, \(1, 5\) from the whole"):
        check_parity(network, replace(halves, tail=longer))


def test_quantised_weights_leave_activations_alone(make_onnx: Make, tmp_path: Path) -> None:
    """By default ONNX Runtime rounds activations in front of them, in the head and not in the whole."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.integers(-90, 90, (32, 32)).astype(np.int8), "codes"),
        numpy_helper.from_array(np.float32(0.01), "scale"),
    ]
    nodes = [
        node("Tanh", ["x"], ["a"]),
        node("DequantizeLinear", ["codes", "scale"], ["w"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Add", ["b", "a"], ["c"]),
        node("Tanh", ["c"], ["y"]),
    ]
    network = load(make_onnx(nodes, [value("x", ["n", 32])], [value("y", ["n", 32])], weights), tmp_path)
    for cut in (["a"], ["a", "b"], ["c"]):
        assert check_parity(network, extract_halves(network, cut)).max_rel_diff <= 1e-5


def test_quantised_activations_may_fall_on_the_next_step(make_onnx: Make, tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32), "w"),
        numpy_helper.from_array(np.float32(0.01), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("QuantizeLinear", ["b", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    network = load(make_onnx(nodes, [value("x", ["n", 8])], [value("y", ["n", 8])], weights), tmp_path)
    halves = extract_halves(network, ["b"])
    assert check_parity(network, halves).max_rel_diff <= 2 / 255
    for step, accepted in ((0.004, True), (0.02, False)):
        shifted = ModelProto()
        shifted.CopyFrom(halves.tail)
        shifted.graph.node[-1].output[0] = "exact"
        shifted.graph.initializer.append(numpy_helper.from_array(np.float32(step), "step"))
        shifted.graph.node.append(node("Add", ["exact", "step"], ["y"]))
        if accepted:
            found = check_parity(network, replace(halves, tail=shifted))
            assert found.max_abs_diff == pytest.approx(step, rel=1e-3)
        else:
            with pytest.raises(GateError, match=r"more than 0\.0078"):
                check_parity(network, replace(halves, tail=shifted))
