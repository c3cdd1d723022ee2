"""The cuts benchmark finds what is wrong, and its cuts are legal and varied."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from isthmus.cli.bench import benchmark_folder, load_benchmark
from isthmus.partitioner.network.model import Network, load_network
from isthmus.runtime.errors import GateError, InputError


@pytest.fixture(scope="module")
def cuts() -> ModuleType:
    load_benchmark(benchmark_folder(), "cuts")
    return sys.modules["isthmus_benchmark_cuts"]


def _network(folder: Path, *, scale: float = 1.0) -> Network:
    """Two convolutions with a skip over both, and an answer of `scale` times their sum."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((3, 3, 3, 3)),
        "w2": rng.standard_normal((3, 3, 3, 3)),
        "scale": np.array(scale),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "image"], ["d"]),
        helper.make_node("Mul", ["d", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["answer"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return load_network(folder / "net.onnx")


def test_cuts_are_legal_different_and_seeded(cuts: ModuleType, tmp_path: Path) -> None:
    network = _network(tmp_path)
    heads = cuts.random_heads(network.graph, 4, np.random.default_rng(0))
    assert len(set(heads)) == 4
    for head in heads:
        network.graph.require_closed(head, network.name)
        assert 0 < len(head) < 6
    assert heads == cuts.random_heads(network.graph, 4, np.random.default_rng(0))
    # A chain has one cut behind each node but the last.
    assert len(cuts.random_heads(network.graph, 5, np.random.default_rng(0))) == 5
    with pytest.raises(InputError, match=r"6 different cuts were not found, 5 were"):
        cuts.random_heads(network.graph, 6, np.random.default_rng(0))


def test_right_halves_pass(cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, ratios = _measure(cuts, _network(tmp_path), monkeypatch)
    assert figures["valid"] == 5
    assert figures["integers_cross"] == 0
    # Behind the first three nodes the image crosses beside them.
    assert figures["several_tensors"] == 3
    assert figures["frontier_tensors"]["max"] == 2
    assert ratios["worst_diff_over_target"] < 1
    assert ratios["swaps_noticed_over_tried"] == 1


def test_a_wrong_tail_is_seen(cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = cuts.extract_at

    def wrong(network: Network, nodes: frozenset[str]) -> Any:
        halves = right(network, nodes)
        for tensor in halves.tail.graph.initializer:
            if tensor.name == "scale":
                tensor.CopyFrom(numpy_helper.from_array(np.float32(1.001), "scale"))
        return halves

    monkeypatch.setattr(cuts, "extract_at", wrong)
    figures, ratios = _measure(cuts, _network(tmp_path), monkeypatch)
    assert figures["max_rel_diff"]["max"] == pytest.approx(0.001, rel=0.01)
    assert ratios["worst_diff_over_target"] > 9


def test_halves_of_another_operator_set_are_not_valid(
    cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cuts.extract_at

    def wrong(network: Network, nodes: frozenset[str]) -> Any:
        halves = right(network, nodes)
        halves.tail.opset_import[0].version = 14
        return halves

    monkeypatch.setattr(cuts, "extract_at", wrong)
    with pytest.raises(GateError, match=r"no cut was valid; the first: .*tail has another operator set"):
        _measure(cuts, _network(tmp_path), monkeypatch)


def test_a_network_that_answers_alike_proves_nothing(
    cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GateError, match="same for different inputs"):
        _measure(cuts, _network(tmp_path, scale=0.0), monkeypatch)


def _measure(cuts: ModuleType, network: Network, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.setattr(cuts, "real_inputs", lambda _name, _count: [])
    figures, ratios = cuts._measure("net", network, 5, 0)
    return figures, ratios


def test_exports_are_kept_and_named_after_what_they_depend_on(
    cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[str] = []

    def export(network: nn.Module, example: torch.Tensor, file: Path) -> None:
        with torch.no_grad():
            exported.append(f"{network(example + 1)}")
        file.write_text(exported[-1])

    monkeypatch.setattr("isthmus.models.teacher_export.export_onnx", export)
    first = cuts.network_file("digits-cnn", tmp_path)
    assert cuts.network_file("digits-cnn", tmp_path) == first
    other = cuts.network_file("digits-cnn", tmp_path, seed=1)
    assert [first.read_text(), other.read_text()] == exported
    assert exported[0] != exported[1]
    assert sorted(tmp_path.iterdir()) == sorted([first, other])
    with pytest.raises(InputError, match=r"network 'alexnet': give one of cifar-resnet20, .*yolox-nano"):
        cuts.network_file("alexnet", tmp_path)
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"yolox_nano.onnx: not here; set ISTHMUS_DATA"):
        cuts.network_file("yolox-nano", tmp_path)
