import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.model import load_network
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


def test_a_cyclic_graph_is_refused(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 3])], [value("b", ["n", 3])]), path)
    assert refused(path).startswith(
        f"{path}: not a valid ONNX model: Nodes in a graph must be topologically sorted"
    )


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([8, 4], "m.onnx: input 'x' has shape [8, 4]; its first dimension must be a batch, dynamic or 1"),
        ([], "m.onnx: input 'x' has shape []; its first dimension must be a batch, dynamic or 1"),
        (
            ["n", 3, "h"],
            "m.onnx: input 'x' has shape ['n', 3, 'h']; "
            "only the batch may vary, export it with dimension 2 fixed",
        ),
    ],
)
def test_inputs_that_have_no_batch_or_no_size(
    make_onnx: Callable[..., ModelProto], tmp_path: Path, dims: list[int | str | None], message: str
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, dims), path)
    assert refused(path) == message


def test_an_anonymous_batch_is_a_batch(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(relu_model(make_onnx, [None, 4]), path)
    network = load_network(path)
    assert network.dynamic_batch
    assert network.graph.tensors["a"].shape == (1, 4)


def test_control_flow_that_reads_around_itself_is_named(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    def branch(kind: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(kind, ["a"], [f"{kind}.y"])], kind, [], [value(f"{kind}.y", ["n", 4])]
        )

    truth = numpy_helper.from_array(np.asarray(True), "truth")
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node(
            "If", ["truth"], ["y"], "pick", then_branch=branch("Neg"), else_branch=branch("Abs")
        ),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], [truth]), path)
    assert refused(path) == (
        "m.onnx: node 'pick' (If) reads 'a' from around its subgraph; "
        "control flow cannot be cut, export the model with the branch or loop resolved"
    )


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
