from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from isthmus.partitioner.cutting.cut import extract_at, extract_halves, write_halves
from isthmus.partitioner.cutting.parity import check_parity, run_whole
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import InputError, PlanError


def test_every_cut_of_a_residual_network_is_the_whole_again(residual_file: Path) -> None:
    network = load_network(residual_file)
    cuts = network.graph.interior_cuts()
    assert len(cuts) >= 10
    for cut in cuts:
        halves = extract_halves(network, [cut.tensor])
        parity = check_parity(network, halves)
        assert parity.feeds == 3
        assert parity.max_rel_diff <= 1e-5
        assert len(halves.head.graph.node) == cut.head_nodes
        assert len(halves.tail.graph.node) == len(network.graph.nodes) - cut.head_nodes


def test_halves_keep_versions_and_lose_notes(
    residual_model: Callable[..., ModelProto], tmp_path: Path
) -> None:
    model = residual_model()
    model.metadata_props.add(key="path", value="/home/somebody/model.py")
    model.doc_string = "made by somebody"
    for node in model.graph.node:
        node.doc_string = 'File "/home/somebody/model.py"'
        node.metadata_props.add(key="stack", value="/home/somebody/model.py")
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    halves = extract_halves(load_network(path), ["b0"])
    for half in (halves.head, halves.tail):
        assert half.ir_version == 8
        assert [(opset.domain, opset.version) for opset in half.opset_import] == [("", 17)]
        assert b"somebody" not in half.SerializeToString()
        onnx.checker.check_model(half, full_check=True)
    # No weight is in both.
    shared = {w.name for w in halves.head.graph.initializer} & {w.name for w in halves.tail.graph.initializer}
    assert not shared


def test_halves_take_any_batch(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["b1"])
    dims = halves.tail.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["n", 16, 4, 4]


def test_a_frontier_of_two_tensors(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["b1.a.relu", "down1.relu"])
    assert [value.name for value in halves.tail.graph.input] == ["b1.a.relu", "down1.relu"]
    assert check_parity(network, halves).max_rel_diff <= 1e-5


def test_an_output_in_the_frontier_comes_from_the_head(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["features"]), helper.make_node("Neg", ["features"], ["y"])]
    x, features, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "features", "y")
    )
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [features, y]), path)
    network = load_network(path)
    halves = extract_halves(network, ["features"])
    assert [value.name for value in halves.tail.graph.output] == ["y"]
    assert check_parity(network, halves).max_abs_diff == 0


def test_an_output_beside_the_frontier_is_answered_by_the_head(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Sin", ["a"], ["early"]),
        helper.make_node("Cos", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    x, early, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "early", "y")
    )
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x], [early, y]), path)
    network = load_network(path)
    halves = extract_halves(network, ["b"])
    assert [entry.name for entry in halves.head.graph.output] == ["b", "early"]
    assert [entry.name for entry in halves.tail.graph.output] == ["y"]
    assert check_parity(network, halves).max_abs_diff == 0
    # The same frontier as of {a}, but here the head answers.
    halves = extract_at(network, {"a", "early"})
    assert halves.frontier == ("a",)
    assert [entry.name for entry in halves.tail.graph.output] == ["y"]
    assert [entry.name for entry in extract_halves(network, ["a"]).tail.graph.output] == ["early", "y"]


def test_inputs_that_only_the_tail_reads_are_its_inputs(
    make_onnx: Callable[..., ModelProto], tmp_path: Path
) -> None:
    """And an input that is an output as it stands is passed on by the head."""
    nodes = [
        helper.make_node("Sin", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "x"], ["b"]),
        helper.make_node("Add", ["b", "z"], ["y"]),
    ]
    x, z, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "z", "y"))
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, [x, z], [y, x]), path)
    network = load_network(path)
    halves = extract_at(network, {"a"})
    assert halves.frontier == ("x", "z", "a")
    assert [entry.name for entry in halves.head.graph.input] == ["x"]
    assert [entry.name for entry in halves.head.graph.output] == ["a", "x"]
    assert [entry.name for entry in halves.tail.graph.input] == ["x", "z", "a"]
    assert check_parity(network, halves).max_abs_diff == 0


def test_what_the_tail_does_not_read_does_not_cross(residual_file: Path) -> None:
    network = load_network(residual_file)
    halves = extract_halves(network, ["stem", "stem.relu", "b0"])
    assert halves.frontier == ("b0",)
    assert [entry.name for entry in halves.tail.graph.input] == ["b0"]


def test_a_weight_of_both_sides_is_in_both_once(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    """As files of 2018 have it: initialisers are inputs too."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "only"], ["b"]),
        helper.make_node("Mul", ["b", "w"], ["c"]),
        helper.make_node("Mul", ["c", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.full((1, 4), 2, np.float32), "w"),
        numpy_helper.from_array(np.full((1, 4), 3, np.float32), "only"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("x", ["n", 4]), ("w", [1, 4]), ("only", [1, 4]))
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    path = tmp_path / "m.onnx"
    onnx.save(make_onnx(nodes, inputs, [y], weights, opset=8, ir_version=3), path)
    network = load_network(path)
    halves = extract_halves(network, ["b"])
    assert [tensor.name for tensor in halves.head.graph.initializer] == ["w", "only"]
    assert [tensor.name for tensor in halves.tail.graph.initializer] == ["w"]
    for half in (halves.head, halves.tail):
        assert (half.ir_version, half.opset_import[0].version) == (4, 8)
        assert len(half.graph.input) == 1
    assert check_parity(network, halves).max_abs_diff == 0


def test_a_frontier_of_many_tensors_has_a_folder_of_its_own(residual_file: Path, tmp_path: Path) -> None:
    halves = extract_halves(load_network(residual_file), ["b0"])
    names = [tuple(f"block{index}/some/long/name/{end}" for index in range(20)) for end in "ab"]
    folders = {write_halves(replace(halves, frontier=name), tmp_path)[0].parent.name for name in names}
    assert len(folders) == 2
    assert max(map(len, folders)) <= 100


@pytest.mark.data
def test_random_cuts_of_a_published_detector(data_root: Path) -> None:
    """Up to nine tensors cross; on noise, and on a photograph, whose detections the halves must repeat."""
    network = load_network(data_root / "weights" / "coco_detect" / "yolox_nano.onnx")
    photo = Image.open(data_root / "weights" / "coco_detect" / "dog.jpg").convert("RGB").resize((416, 416))
    (name,) = network.graph.inputs
    image = np.asarray(photo, np.float32)[None, :, :, ::-1].transpose(0, 3, 1, 2)
    reference = run_whole(network, real=[{name: np.ascontiguousarray(image)}])
    rng, maker = np.random.default_rng(0), {out: n.key for n in network.graph.nodes for out in n.outputs}
    widest = 0
    for _ in range(20):
        limit, chosen = int(rng.integers(1, len(network.graph.nodes))), set()
        for node in network.graph.nodes:
            ready = all(maker[read] in chosen for read in node.inputs if read in maker)
            if ready and len(chosen) < limit and rng.random() < 0.97:
                chosen.add(node.key)
        halves = extract_at(network, chosen)
        assert check_parity(network, halves, reference=reference).max_rel_diff <= 1e-4
        widest = max(widest, len(halves.frontier))
    assert widest >= 3


def test_cuts_that_are_none(residual_file: Path) -> None:
    network = load_network(residual_file)
    with pytest.raises(PlanError, match=r"leaves a way around it through 'stem\.relu'; cut there too"):
        extract_halves(network, ["b0.a.relu"])
    with pytest.raises(PlanError, match="no tensor 'layer9'"):
        extract_halves(network, ["layer9"])
    for end in ("image", "logits"):
        with pytest.raises(PlanError, match="leaves one half empty"):
            extract_halves(network, [end])


def test_written_halves_load(residual_file: Path, tmp_path: Path) -> None:
    halves = extract_halves(load_network(residual_file), ["stem.relu"])
    head, tail = write_halves(halves, tmp_path / "out")
    assert head == tmp_path / "out" / "stem.relu" / "head.onnx"
    assert onnx.load(head) == halves.head
    assert onnx.load(tail) == halves.tail
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        write_halves(halves, tmp_path / "file")
