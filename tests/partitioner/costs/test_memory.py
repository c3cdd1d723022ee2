from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.costs.memory import half_memory, measure_peak_bytes
from isthmus.partitioner.facts import TensorFact


def fact(name: str, nbytes: int) -> TensorFact:
    return TensorFact(name=name, dtype="uint8", shape=(1, nbytes), nbytes=nbytes)


@pytest.fixture
def skip_model(make_onnx: Callable[..., ModelProto]) -> ModelProto:
    """x → a → b, and y = b + a: `a` stays alive over `b`."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "a"], ["y"]),
    ]
    weight = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    return make_onnx(nodes, [values[0]], [values[1]], [weight])


def test_tensors_live_from_their_maker_to_their_last_reader(skip_model: ModelProto) -> None:
    facts = {name: fact(name, size) for name, size in (("x", 1), ("a", 10), ("b", 100), ("y", 1000))}
    memory = half_memory(skip_model, facts)
    # The largest moment is the last: a, b and y.
    assert memory.activation_bytes == 1110
    assert memory.weight_bytes == 16
    assert memory.peak_bytes is None


def test_the_largest_moment_may_be_early(skip_model: ModelProto) -> None:
    facts = {name: fact(name, size) for name, size in (("x", 1000), ("a", 100), ("b", 10), ("y", 1))}
    assert half_memory(skip_model, facts).activation_bytes == 1100


def test_outputs_stay_alive(skip_model: ModelProto) -> None:
    skip_model.graph.output.append(onnx.ValueInfoProto(name="b"))
    facts = {name: fact(name, 1) for name in ("x", "a", "b", "y")}
    assert half_memory(skip_model, facts).activation_bytes == 3


def test_a_size_nobody_knows_is_left_out(skip_model: ModelProto) -> None:
    unknown = TensorFact(name="b", dtype="float32", shape=None, nbytes=None)
    facts = {"x": fact("x", 1), "a": fact("a", 10), "b": unknown, "y": fact("y", 1000)}
    assert half_memory(skip_model, facts).activation_bytes == 1010


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak")
def test_a_measured_peak_holds_the_weights(make_onnx: Callable[..., ModelProto], tmp_path: Path) -> None:
    """48 MiB of weights, and no room for a process of this size: what is measured belongs to the model."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((2048, 6144)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2048])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6144])]
    model = make_onnx(nodes, inputs, outputs, [weight])
    feed = {"x": np.zeros((1, 2048), np.float32)}
    peak = measure_peak_bytes(model, tmp_path, feed, threads=1)
    assert peak is not None
    assert 48 << 20 <= peak <= 400 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak")
def test_a_model_that_cannot_run_has_no_peak(skip_model: ModelProto, tmp_path: Path) -> None:
    assert measure_peak_bytes(skip_model, tmp_path, {"x": np.zeros((1, 3), np.float32)}, threads=1) is None
