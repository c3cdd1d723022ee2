from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.network.work import NodeWork, node_work

Make = Callable[..., ModelProto]


def weight(name: str, *shape: int, kind: type[np.generic] = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, kind), name)


def only(
    make: Make, tmp_path: Path, node: NodeProto, shape: list[int | str], weights: list[TensorProto]
) -> NodeWork:
    """Return the work of `node`, which reads `x` of `shape` and makes `y`, between two others."""
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Relu", ["image"], ["x"]), node, helper.make_node("Relu", ["y"], ["out"])]
    path = tmp_path / "m.onnx"
    onnx.save(make(nodes, [x], [out], weights), path)
    return node_work(load_network(path))["y"]


def test_a_convolution(make_onnx: Make, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4, strides=[2, 2])
    work = only(make_onnx, tmp_path, node, ["n", 3, 8, 8], [weight("w", 16, 3, 3, 3), weight("b", 16)])
    assert work.operator == "conv"
    assert work.flops == 2 * (16 * 4 * 4) * (3 * 3 * 3)
    assert work.weight_bytes == 4 * (16 * 27 + 16)
    assert work.bytes_moved == 4 * (3 * 64 + 16 * 27 + 16 + 16 * 16)
    assert work.known


def test_a_depthwise_convolution_is_a_class_of_its_own(make_onnx: Make, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, group=6)
    work = only(make_onnx, tmp_path, node, ["n", 6, 8, 8], [weight("w", 6, 1, 3, 3)])
    assert (work.operator, work.flops) == ("depthwise", 2 * 6 * 64 * 9)
    # Two groups are not: each output meets half of the input channels.
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, group=2)
    work = only(make_onnx, tmp_path, node, ["n", 6, 8, 8], [weight("w", 4, 3, 3, 3)])
    assert (work.operator, work.flops) == ("conv", 2 * 4 * 64 * 27)


def test_a_transposed_convolution_counts_from_its_input(make_onnx: Make, tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    work = only(make_onnx, tmp_path, node, ["n", 6, 4, 4], [weight("w", 6, 5, 2, 2)])
    # Windows do not overlap here, so every one of the 5x8x8 outputs is a sum over 6 channels.
    assert work.flops == 2 * (6 * 16) * (5 * 4) == 2 * (5 * 64) * 6


@pytest.mark.parametrize(
    ("node", "shape", "weights", "operator", "flops"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), ["n", 7, 5], [(5, 9)], "matmul", 2 * 7 * 9 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), ["n", 5], [(9, 5)], "matmul", 2 * 9 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [1, 5], [(1, 9)], "matmul", 2 * 5 * 9),
        (
            helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij,jk->bik"),
            ["n", 7, 5],
            [(5, 9)],
            "matmul",
            2 * 7 * 5 * 9,
        ),
        (helper.make_node("Softmax", ["x"], ["y"]), ["n", 7, 5], [], "norm", 5 * 35),
        (
            helper.make_node("LayerNormalization", ["x", "w"], ["y"]),
            ["n", 7, 5],
            [(5,)],
            "norm",
            8 * 35,
        ),
        (
            helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2]),
            ["n", 2, 9, 8],
            [],
            "pool",
            2 * 4 * 4 * 6,
        ),
        (helper.make_node("GlobalAveragePool", ["x"], ["y"]), ["n", 2, 9, 8], [], "pool", 144),
        (helper.make_node("Mul", ["x", "w"], ["y"]), ["n", 7, 5], [(5,)], "elementwise", 35),
        (helper.make_node("Sum", ["x", "w", "x"], ["y"]), ["n", 7, 5], [(5,)], "elementwise", 70),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1]), ["n", 7, 5], [], "other", 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, NodeProto) else "",
)
def test_operators(
    make_onnx: Make,
    tmp_path: Path,
    node: NodeProto,
    shape: list[int | str],
    weights: list[tuple[int, ...]],
    operator: str,
    flops: int,
) -> None:
    work = only(make_onnx, tmp_path, node, shape, [weight("w", *dims) for dims in weights])
    assert (work.operator, work.flops, work.known) == (operator, flops, True)


def test_attention_meets_every_key_twice(make_onnx: Make, tmp_path: Path) -> None:
    """Scores, then their use: 6 queries and 6 keys of two heads with 8 numbers each."""
    nodes = [
        helper.make_node("Relu", ["x"], ["q"]),
        helper.make_node("Attention", ["q", "x", "x"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 6, 8]) for name in "xy")
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y], opset=23, ir_version=11), path)
    work = node_work(load_network(path))["y"]
    assert (work.operator, work.flops) == ("matmul", 2 * (2 * 2 * 6 * 6 * 8))


def test_recurrence_meets_every_weight_at_every_step(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["y"], hidden_size=4),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 10, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [y], [weight("w", 1, 16, 5), weight("r", 1, 16, 4)]), path)
    work = node_work(load_network(path))["y"]
    assert (work.operator, work.flops) == ("matmul", 2 * 10 * (16 * 5 + 16 * 4))


def test_a_reshape_moves_nothing_and_a_look_up_only_what_it_finds(make_onnx: Make, tmp_path: Path) -> None:
    target = numpy_helper.from_array(np.asarray([-1, 35], np.int64), "w")
    node = helper.make_node("Reshape", ["x", "w"], ["y"])
    work = only(make_onnx, tmp_path, node, ["n", 7, 5], [target])
    assert (work.flops, work.bytes_moved, work.known) == (0, 0, True)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["found"]),
        helper.make_node("Relu", ["found"], ["y"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8])
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [ids], [y], [weight("table", 1000, 8)]), path)
    found = node_work(load_network(path))["found"]
    assert found.bytes_moved == 2 * 3 * 8 * 4 + 3 * 8
    assert found.weight_bytes == 1000 * 8 * 4


def test_a_weight_that_two_nodes_need_counts_once(make_onnx: Make, tmp_path: Path) -> None:
    """Directly, or behind a node of constants."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["a", "full"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("MatMul", ["c", "full"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 200]) for name in ("x", "y"))
    path = tmp_path / "m.onnx"
    # Large enough that it is not computed beforehand: stored it would take twice the bytes.
    weights = [weight("w", 200, 200), weight("half", 200, 200, kind=np.float16)]
    onnx.save(make_onnx(nodes, [x], [y], weights), path)
    work = node_work(load_network(path))
    assert [work[key].weight_bytes for key in ("a", "b", "c", "y")] == [160_000, 80_000, 0, 0]


def test_what_is_not_known_is_said(make_onnx: Make, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Twist", ["x"], ["a"], domain="test"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["x"], ["c"]),
    ]
    x, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in "xbc")
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [b, c], domains=("test",)), path)
    work = node_work(load_network(path))
    assert (work["a"].operator, work["a"].known, work["b"].known, work["c"].known) == (
        "other",
        False,
        False,
        True,
    )


@pytest.mark.data
def test_a_published_network_has_its_published_operations(data_root: Path) -> None:
    """YOLOX-Nano at 416x416: 0.91 M parameters and 1.08 GFLOPs (Ge et al., arXiv 2107.08430, table 3)."""
    work = node_work(load_network(data_root / "weights" / "coco_detect" / "yolox_nano.onnx"))
    assert sum(item.flops for item in work.values()) == pytest.approx(1.08e9, rel=0.02)
    assert sum(item.weight_bytes for item in work.values()) == pytest.approx(4 * 0.91e6, rel=0.02)
    assert all(item.known for item in work.values())
