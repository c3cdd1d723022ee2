import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_halves
from isthmus.partitioner.cutting.parity import check_parity
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import InputError


def value(name: str, dims: list[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def relu_model(
    make_onnx: Callable[..., ModelProto], dims: list[int | str | None], **options: int
) -> ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    return make_onnx(nodes, [value("x", dims)], [value("y", dims)], **options)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_knows_its_file(residual_file: Path) -> None:
    network = load_network(residual_file)
    assert network.name == "residual.onnx"
    assert network.digest == hashlib.sha256(residual_file.read_bytes()).hexdigest()
    assert network.original == onnx.load(residual_file)
    assert network.dynamic_batch
    assert network.graph.tensors["b0"].shape == (1, 8, 8, 8)
    assert network.graph.tensors["b1"].shape == (1, 16, 4, 4)


def test_the_digest_covers_external_data(
    residual_model: Callable[..., ModelProto], residual_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(residual_model(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    before = load_network(path)
    assert [cut.tensor for cut in before.graph.interior_cuts()] == [
        cut.tensor for cut in load_network(residual_file).graph.interior_cuts()
    ]
    data = bytearray((tmp_path / "big.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "big.data").write_bytes(data)
    assert load_network(path).digest != before.digest


def test_missing_external_data_is_named(residual_model: Callable[..., ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(residual_model(), path, save_as_external_data=True, location="big.data", size_threshold=0)
    (tmp_path / "big.data").unlink()
    assert "big.data" in refused(path)


def test_files_that_are_no_models(residual_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert refused(path) == f"{path}: No such file or directory; give an ONNX file"
    assert refused(tmp_path) == f"{tmp_path}: Is a directory; give an ONNX file"
    path.write_bytes(b"")
    assert refused(path).startswith(f"{path}: the file is empty; export")
    path.write_text("this is text, not a model\n")
    assert refused(path).startswith(f"{path}: not an ONNX model, or cut short; export")
    whole = residual_file.read_bytes()
    for length in range(1, len(whole), len(whole) // 50):
        path.write_bytes(whole[:length])
        assert str(path) in refused(path), length


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (
            ["n", 3, "h"],
            "m.onnx: input 'x' has shape ['n', 3, 'h']; "
            "only the batch may vary, export it with dimension 2 fixed",
        ),
        (
            [1, None],
            "m.onnx: input 'x' has shape [1, '?']; only the batch may vary, export it with dimension 1 fixed",
        ),
        (
            ["n", 0],
            "m.onnx: input 'x' has shape ['n', 0]; only the batch may vary, export it with dimension 1 fixed",
        ),
    ],
)
def test_dimensions_that_are_no_batch_and_have_no_size(
    make_onnx: Callable[..., ModelProto], tmp_path: Path, dims: list[int | str | None], message: str
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, dims), path)
    assert refused(path) == message


def test_a_symbolic_dimension_can_be_given_a_size(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, ["n", 3, "h"]), path)
    network = load_network(path, sizes={"h": 5})
    assert network.graph.tensors["a"].shape == (1, 3, 5)
    assert network.dynamic_batch
    halves = extract_halves(network, ["a"])
    dims = halves.tail.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["n", 3, 5]
    assert check_parity(network, halves).feeds == 3
    fixed = load_network(path, sizes={"h": 5, "n": 2})
    assert fixed.graph.tensors["a"].shape == (2, 3, 5)
    assert not fixed.dynamic_batch
    with pytest.raises(InputError, match=r"^m\.onnx: no input has a dimension 'w'; symbolic are h, n$"):
        load_network(path, sizes={"w": 5})
    with pytest.raises(InputError, match=r"^m\.onnx: size 0 of dimension 'h'; give at least 1$"):
        load_network(path, sizes={"h": 0})


@pytest.mark.parametrize("dims", [[8, 4], [], [3]])
def test_a_network_without_a_batch_is_taken_as_it_stands(
    make_onnx: Callable[..., ModelProto], tmp_path: Path, dims: list[int | str | None]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, dims), path)
    network = load_network(path)
    assert network.graph.tensors["a"].shape == tuple(dims)
    assert not network.dynamic_batch
    assert check_parity(network, extract_halves(network, ["a"])).feeds == 2


def test_a_batch_that_only_one_fits_is_one(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    """Exporters call the batch dynamic although a reshape in the middle says 1."""
    target = numpy_helper.from_array(np.asarray([1, 12], np.int64), "target")
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "target"], ["flat"]),
        helper.make_node("Sin", ["flat"], ["y"]),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 3, 4])], [value("y", [1, 12])], [target]), path)
    network = load_network(path)
    for cut in ("a", "flat"):
        assert check_parity(network, extract_halves(network, [cut])).feeds == 2


def test_an_anonymous_batch_is_a_batch(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, [None, 4]), path)
    network = load_network(path)
    assert network.dynamic_batch
    assert network.graph.tensors["a"].shape == (1, 4)


def test_weights_that_are_inputs_as_well_are_weights(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    """IR 3, as files of 2018 have it."""
    weight = numpy_helper.from_array(np.full((1, 4), 2, np.float32), "w")
    nodes = [helper.make_node("Mul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    inputs = [value("x", ["n", 4]), value("w", [1, 4])]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, inputs, [value("y", ["n", 4])], [weight], opset=8, ir_version=3), path)
    network = load_network(path)
    assert network.graph.inputs == ("x",)
    assert network.proto.ir_version == 4
    assert network.original.ir_version == 3


def test_a_graph_without_anything_to_cut(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    nodes = [helper.make_node("Relu", ["w"], ["y"])]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 4])], [value("y", [1, 4])], [weight]), path)
    assert "no output depends on an input" in refused(path)
    onnx.save(make_onnx(nodes, [], [value("y", [1, 4])], [weight]), path)
    assert "has no input" in refused(path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4])),
            "m.onnx: input 'x' is of type sequence; export it with tensors as inputs",
        ),
        (
            helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4])),
            "m.onnx: input 'x' is of type optional; export it with tensors as inputs",
        ),
        (
            helper.make_tensor_type_proto(TensorProto.STRING, ["n", 4]),
            "m.onnx: input 'x' is of type string; export it with numbers that numpy has",
        ),
        (
            helper.make_tensor_type_proto(TensorProto.BFLOAT16, ["n", 4]),
            "m.onnx: input 'x' is of type bfloat16; export it with numbers that numpy has",
        ),
        (
            helper.make_tensor_type_proto(TensorProto.FLOAT, None),
            "m.onnx: input 'x' is of unknown rank; export it with a fixed shape",
        ),
    ],
    ids=["sequence", "optional", "string", "bfloat16", "rank"],
)
def test_inputs_that_are_no_arrays_of_numbers(
    make_onnx: Callable[..., ModelProto], tmp_path: Path, kind: onnx.TypeProto, message: str
) -> None:
    model = make_onnx(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_value_info("x", kind)],
        [helper.make_value_info("y", kind)],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert refused(path).endswith(message)


def test_an_output_that_is_a_sequence_is_named(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("SequenceConstruct", ["a", "x"], ["y"]),
    ]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4]))
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 4])], [helper.make_value_info("y", kind)]), path)
    assert refused(path) == "m.onnx: output 'y' is of type sequence; export it with tensors as outputs"


def test_an_output_without_a_shape_gets_one(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    model = relu_model(make_onnx, ["n", 4])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    (declared,) = load_network(path).proto.graph.output
    assert [dim.dim_param or dim.dim_value for dim in declared.type.tensor_type.shape.dim] == ["n", 4]


def test_functions_are_cut_open(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    body = [helper.make_node("Neg", ["p"], ["m"]), helper.make_node("Sin", ["m"], ["q"])]
    wave = helper.make_function("mine", "Wave", ["p"], ["q"], body, [helper.make_opsetid("", 17)])
    nodes = [
        helper.make_node("Wave", ["x"], ["a"], domain="mine"),
        helper.make_node("Wave", ["a"], ["y"], domain="mine"),
    ]
    model = make_onnx(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], domains=("mine",))
    model.functions.append(wave)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    network = load_network(path)
    assert [node.op for node in network.graph.nodes] == ["Neg", "Sin", "Neg", "Sin"]
    for cut in network.graph.interior_cuts():
        halves = extract_halves(network, [cut.tensor])
        assert not halves.head.functions
        assert check_parity(network, halves).max_abs_diff == 0


def test_an_operator_that_nobody_knows_is_named_when_it_has_to_run(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Twist", ["a"], ["y"], domain="mine"),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], domains=("mine",)), path)
    network = load_network(path)
    halves = extract_halves(network, ["a"])
    with pytest.raises(InputError, match=r"^m\.onnx: ONNX Runtime cannot load it: .*Twist"):
        check_parity(network, halves)
