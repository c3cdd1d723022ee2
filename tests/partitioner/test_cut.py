from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from isthmus.partitioner.cut import extract_halves, write_halves
from isthmus.partitioner.model import load_network
from isthmus.partitioner.parity import check_parity
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
