"""Random networks with fans, skips, splits, shapes and several ends: every legal cut is the whole again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.cutting.cut import extract_at, extract_halves
from isthmus.partitioner.cutting.parity import Reference, check_parity, run_whole
from isthmus.partitioner.network.graph import FlowGraph
from isthmus.partitioner.network.model import load_network
from isthmus.runtime.errors import GateError, PlanError

SIDE = 4


class Builder:
    """Draws a network of feature maps [n, c, 4, 4] node by node."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.channels: dict[str, int] = {}
        self.counts: list[str] = []

    def add(self, operator: str, reads: list[str], channels: list[int], **attributes: object) -> list[str]:
        made = [f"t{len(self.nodes)}_{index}" for index in range(len(channels))]
        self.nodes.append(helper.make_node(operator, reads, made, **attributes))
        self.channels.update(zip(made, channels, strict=True))
        return made

    def weight(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def pick(self) -> str:
        recent = list(self.channels)[-4:]
        return str(self.rng.choice(recent if self.rng.random() < 0.7 else list(self.channels)))

    def step(self) -> None:
        source = self.pick()
        count = self.channels[source]
        kind = self.rng.choice(["unary", "binary", "scale", "conv", "concat", "split", "shape", "shared"])
        if kind == "binary":
            same = [name for name, channels in self.channels.items() if channels == count]
            operator = str(self.rng.choice(["Add", "Mul", "Max"]))
            self.add(operator, [source, str(self.rng.choice(same))], [count])
        elif kind == "scale":
            shape = (1, count, 1, 1)
            self.add(
                "Mul", [source, self.weight(self.rng.uniform(0.5, 1.5, shape).astype(np.float32))], [count]
            )
        elif kind == "conv":
            wide = int(self.rng.integers(1, 4))
            values = self.rng.standard_normal((wide, count, 3, 3)) / np.sqrt(9 * count)
            self.add("Conv", [source, self.weight(values.astype(np.float32))], [wide], pads=[1] * 4)
        elif kind == "concat":
            other = self.pick()
            self.add("Concat", [source, other], [count + self.channels[other]], axis=1)
        elif kind == "split" and count > 1:
            first = int(self.rng.integers(1, count))
            sizes = self.weight(np.asarray([first, count - first], np.int64))
            self.add("Split", [source, sizes], [first, count - first], axis=1)
        elif kind == "shape":
            # An int64 tensor that two nodes far apart may read: it crosses like any other.
            name = f"s{len(self.nodes)}"
            self.nodes.append(helper.make_node("Shape", [source], [name]))
            self.counts.append(name)
            (grown,) = self.add("Expand", [source, name], [count])
            self.add("Tanh", [grown], [count])
        elif kind == "shared" and self.weights and self.weights[-1].data_type == TensorProto.FLOAT:
            last = self.weights[-1]
            if last.dims[1] == count and list(last.dims[2:]) == [1, 1]:
                self.add("Add", [source, last.name], [count])
        else:
            self.add(str(self.rng.choice(["Relu", "Tanh", "Sin", "Neg"])), [source], [count])


def random_network(seed: int) -> ModelProto:
    rng = np.random.default_rng(seed)
    build = Builder(rng)
    inputs = [f"in{index}" for index in range(rng.integers(1, 4))]
    build.channels.update({name: int(rng.integers(1, 4)) for name in inputs})
    for _ in range(rng.integers(4, 22)):
        build.step()
    made = [name for name in build.channels if name not in inputs]
    ends = dict.fromkeys([made[-1], *(str(name) for name in rng.choice(made, size=rng.integers(0, 3)))])

    def declare(name: str) -> onnx.ValueInfoProto:
        dims = ["n", build.channels[name], SIDE, SIDE]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    graph = helper.make_graph(
        build.nodes, "random", [*map(declare, inputs)], [*map(declare, ends)], initializer=build.weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def closed_sets(graph: FlowGraph, rng: np.random.Generator, count: int) -> Iterator[frozenset[str]]:
    """Yield random sets of nodes that need nothing outside, each neither empty nor everything."""
    maker = {name: node.key for node in graph.nodes for name in node.outputs}
    for _ in range(count):
        share = rng.uniform(0.2, 0.95)
        chosen: set[str] = set()
        for node in graph.nodes:
            if rng.random() < share and all(maker[name] in chosen for name in node.inputs if name in maker):
                chosen.add(node.key)
        if 0 < len(chosen) < len(graph.nodes):
            yield frozenset(chosen)


@dataclass
class Seen:
    """What the compared cuts were like."""

    compared: int = 0
    widest: int = 0
    whole_numbers: int = 0
    inputs_across: int = 0
    answers_in_head: int = 0


def check_cuts(seed: int, path: Path, seen: Seen) -> None:
    """Check random cuts of a random network."""
    onnx.save(random_network(seed), path)
    network = load_network(path)
    reference = run_whole(network, seed=seed)
    for nodes in closed_sets(network.graph, np.random.default_rng(seed), 6):
        halves = extract_at(network, nodes)
        for half in (halves.head, halves.tail):
            onnx.checker.check_model(half, full_check=True)
            names = [tensor.name for tensor in half.graph.initializer]
            read = {name for node in half.graph.node for name in node.input}
            assert len(names) == len({*names})
            assert {*names} <= read | {value.name for value in half.graph.output}
            assert half.ir_version == network.original.ir_version
            assert half.opset_import == network.original.opset_import
        assert halves.frontier == network.graph.frontier_of(nodes)
        if halves.frontier and len(network.graph.head_of(halves.frontier)) > 0:
            assert {*extract_halves(network, halves.frontier).frontier} == {*halves.frontier}
        tail_varies = any(varies(reference, value.name) for value in halves.tail.graph.output)
        if not tail_varies:
            # A ReLU may have cut off all that varies: then there is nothing to compare, and it says so.
            with pytest.raises(GateError, match="the same for different inputs"):
                check_parity(network, halves, reference=reference)
            continue
        assert check_parity(network, halves, reference=reference).max_rel_diff <= 1e-5, (seed, nodes)
        seen.compared += 1
        seen.widest = max(seen.widest, len(halves.frontier))
        seen.whole_numbers += any(network.graph.tensors[name].dtype == "int64" for name in halves.frontier)
        seen.inputs_across += not {*halves.frontier}.isdisjoint(network.graph.inputs)
        ends = {value.name for value in network.proto.graph.output}
        seen.answers_in_head += any(value.name in ends for value in halves.head.graph.output)


def varies(reference: Reference, output: str) -> bool:
    first, second = (answer[output] for answer in reference.answers[:2])
    return float(np.abs(first - second).max()) > 1e-4 * float(np.abs(first).max())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_every_legal_cut_is_the_whole_again(tmp_path: Path, seed: int) -> None:
    check_cuts(seed, tmp_path / "m.onnx", Seen())


def test_the_generator_makes_cuts_worth_comparing(tmp_path: Path) -> None:
    seen = Seen()
    for seed in range(40):
        check_cuts(seed, tmp_path / "m.onnx", seen)
    assert seen.compared >= 100
    assert seen.widest >= 4
    assert min(seen.whole_numbers, seen.inputs_across, seen.answers_in_head) >= 10, seen


@pytest.mark.slow
def test_five_hundred_networks(tmp_path: Path) -> None:
    seen = Seen()
    for seed in range(1000, 1500):
        check_cuts(seed, tmp_path / "m.onnx", seen)
    assert seen.compared >= 1200


def test_sets_that_lack_what_they_need_are_refused(tmp_path: Path) -> None:
    refused = 0
    for seed in range(30):
        onnx.save(random_network(seed), tmp_path / "m.onnx")
        network = load_network(tmp_path / "m.onnx")
        keys = [node.key for node in network.graph.nodes]
        made = {name for node in network.graph.nodes for name in node.outputs}
        for node in network.graph.nodes:
            if len(keys) > 1 and not made.isdisjoint(node.inputs):
                with pytest.raises(PlanError, match="put both on one side"):
                    extract_at(network, {node.key})
                refused += 1
        with pytest.raises(PlanError, match="leave one half empty"):
            extract_at(network, keys)
    assert refused > 100
