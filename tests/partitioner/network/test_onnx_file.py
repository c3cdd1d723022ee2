import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.network.onnx_file import read_onnx, sort_nodes
from isthmus.partitioner.network.weights import MAX_BYTES
from isthmus.runtime.errors import InputError

Make = Callable[..., ModelProto]
node = helper.make_node


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])


def weight(name: str) -> TensorProto:
    return numpy_helper.from_array(np.ones((1, 4), np.float32), name)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_file_is_read_as_it_is(residual_file: Path) -> None:
    source = read_onnx(residual_file)
    assert source.model == onnx.load(residual_file)
    assert source.folder == residual_file.parent
    assert source.digest == hashlib.sha256(residual_file.read_bytes()).hexdigest()


def test_a_file_of_more_than_protobuf_holds(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room on the disk
    assert refused(path) == (
        f"{MAX_BYTES + 1:,} bytes in one file; ONNX ends at 2 GiB, export the weights as external data"
    )


def test_bytes_that_happen_to_parse_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x07")
    assert refused(path).startswith("not an ONNX model: it has no graph; export")
    # A zip, as torch.save writes it, and a text.
    for content in (b"PK\x03\x04" + bytes(100), b"hello, world\n" * 10):
        path.write_bytes(content)
        assert refused(path).startswith("not an ONNX model")


@pytest.mark.parametrize(
    ("nodes", "weights", "message"),
    [
        (
            [node("Add", ["x", "b"], ["a"], "first"), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])],
            [],
            "its graph has a cycle, 'first' -> 'b' -> 'first'",
        ),
        (
            [node("Add", ["x", "a"], ["a"]), node("Neg", ["a"], ["y"])],
            [],
            "its graph has a cycle, 'a' -> 'a'",
        ),
        (
            [node("Relu", ["x"], ["a"], "one"), node("Neg", ["x"], ["a"], "two"), node("Neg", ["a"], ["y"])],
            [],
            "tensor 'a' is made twice, by node 'one' (Relu) and by node 'two' (Neg)",
        ),
        (
            [node("Relu", ["x"], ["w"]), node("Neg", ["w"], ["y"])],
            [weight("w")],
            "tensor 'w' is made twice, by an initialiser and by node 'w' (Relu)",
        ),
        ([node("Add", ["x", "w"], ["y"])], [weight("w")] * 2, "two initialisers are called 'w'"),
        (
            [node("Relu", ["x"], ["a"], "same"), node("Neg", ["a"], ["y"], "same")],
            [],
            "two nodes are called 'same'; give each its own name",
        ),
        ([node("Add", ["x", "w"], ["y"])], [], "node 'y' (Add) reads 'w', which nothing makes"),
        ([node("Relu", ["x"], ["a"])], [], "nothing makes the output 'y'"),
    ],
)
def test_graphs_that_are_none(
    make_onnx: Make, tmp_path: Path, nodes: list[NodeProto], weights: list[TensorProto], message: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(make_onnx(nodes, [value("x")], [value("y")], weights).SerializeToString())
    assert refused(path).startswith(message)


def test_a_long_cycle_is_shortened(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [node("Relu", [f"t{(index - 1) % 9}"], [f"t{index}"]) for index in range(9)]
    path = tmp_path / "m.onnx"
    model = make_onnx([*nodes, node("Add", ["x", "t8"], ["y"])], [value("x")], [value("y")])
    path.write_bytes(model.SerializeToString())
    assert refused(path).startswith("its graph has a cycle, 't0' -> ... -> 't7' -> 't8' -> 't0'; ")


def test_two_inputs_of_one_name(make_onnx: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = make_onnx([node("Relu", ["x"], ["y"])], [value("x"), value("x")], [value("y")])
    path.write_bytes(model.SerializeToString())
    assert refused(path).startswith("two inputs are called 'x'; export")


def test_what_only_the_checker_knows_is_one_line(make_onnx: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = make_onnx([node("Conv", ["x"], ["y"])], [value("x")], [value("y")])
    path.write_bytes(model.SerializeToString())
    found = refused(path)
    assert found.startswith("not a valid ONNX model: Node")
    assert "has input size 1 not in range" in found


def test_a_weight_shorter_than_its_shape(make_onnx: Make, tmp_path: Path) -> None:
    short = weight("w")
    short.raw_data = short.raw_data[:-4]
    path = tmp_path / "m.onnx"
    model = make_onnx([node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")], [short])
    path.write_bytes(model.SerializeToString())
    assert refused(path) == "initialiser 'w' has 12 bytes, its shape [1, 4] takes 16; export it again"


def test_sparse_weights_are_named(make_onnx: Make, tmp_path: Path) -> None:
    model = make_onnx([node("Relu", ["x"], ["y"])], [value("x")], [value("y")])
    model.graph.sparse_initializer.add().dims.append(4)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert refused(path) == "has sparse initialisers, which cannot be cut; store its weights densely"


def test_nodes_in_any_order_are_sorted(make_onnx: Make, tmp_path: Path) -> None:
    chain = [node("Relu", [f"t{index}"], [f"t{index + 1}"]) for index in range(6)]
    shuffled = [chain[index] for index in (4, 0, 5, 2, 1, 3)]
    model = make_onnx(shuffled, [value("t0")], [value("t6")])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert read_onnx(path).model == model
    sort_nodes(model.graph, "m.onnx")
    assert list(model.graph.node) == chain


def test_an_order_that_holds_is_kept() -> None:
    graph = GraphProto()
    graph.node.extend(
        [node("Relu", ["x"], ["b"]), node("Relu", ["x"], ["a"]), node("Add", ["a", "b"], ["y"])]
    )
    before = [item.output[0] for item in graph.node]
    sort_nodes(graph, "m.onnx")
    assert [item.output[0] for item in graph.node] == before
