"""Small networks, made with onnx; their weights are random, not degenerate, so that parity has a meaning."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.plan import Candidate, Figures, StageTimes
from isthmus.runtime.machines import MachineProfile, Operator, OperatorSpeed


def _model(nodes, inputs, outputs, weights=(), *, opset=17, ir_version=8, domains=()) -> ModelProto:
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializer=list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def _residual(
    *,
    blocks: int = 3,
    channels: int = 8,
    size: int = 8,
    batch: int | str = "n",
    classes: int = 5,
    seed: int = 0,
) -> ModelProto:
    """Conv, then blocks relu(x + conv(relu(conv(x)))), each second one halving the plane; mean, dense."""
    rng = np.random.default_rng(seed)
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        values = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(source: str, name: str, inside: int, outside: int, stride: int = 1) -> str:
        reads = [source, weight(f"{name}.w", outside, inside, 3, 3), weight(f"{name}.b", outside)]
        nodes.append(helper.make_node("Conv", reads, [name], strides=[stride] * 2, pads=[1] * 4))
        return name

    def op(kind: str, reads: Sequence[str], name: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, list(reads), [name], **attributes))
        return name

    x = op("Relu", [conv("image", "stem", 3, channels)], "stem.relu")
    for index in range(blocks):
        if index % 2:
            x = op("Relu", [conv(x, f"down{index}", channels, 2 * channels, stride=2)], f"down{index}.relu")
            channels *= 2
        inner = op("Relu", [conv(x, f"b{index}.a", channels, channels)], f"b{index}.a.relu")
        inner = conv(inner, f"b{index}.c", channels, channels)
        x = op("Relu", [op("Add", [inner, x], f"b{index}.sum")], f"b{index}")
    pooled = op("GlobalAveragePool", [x], "pooled")
    flat = op("Flatten", [pooled], "flat")
    op("Gemm", [flat, weight("fc.w", classes, channels), weight("fc.b", classes)], "logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])
    return _model(nodes, [image], [logits], weights)


def _dag(rng: np.random.Generator) -> ModelProto:
    """A random graph of [n, 4] tensors: several inputs and outputs, fans, dead ends, constants."""
    names = [f"in{index}" for index in range(rng.integers(1, 3))]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in names]
    weight = numpy_helper.from_array(rng.standard_normal((1, 4)).astype(np.float32), "weight")
    nodes = [
        helper.make_node(
            "Constant", [], ["fixed"], value=numpy_helper.from_array(np.ones((1, 4), np.float32))
        )
    ]
    makes: list[str] = []
    for index in range(rng.integers(2, 14)):
        # Mostly recent tensors, so that chains with occasional bypasses come out, not hairballs.
        pool = names[-int(rng.choice([1, 1, 2, 3, 6])) :]
        reads = [
            str(name) for name in rng.choice(pool, size=rng.integers(1, min(3, len(pool)) + 1), replace=False)
        ]
        constants = [str(name) for name in rng.choice(["weight", "fixed"], size=rng.integers(0, 2))]
        if rng.random() < 0.15:
            made = [f"t{index}a", f"t{index}b"]
            nodes.append(helper.make_node("Fan", reads + constants, made, domain="test"))
        else:
            made = [f"t{index}"]
            nodes.append(helper.make_node("Sum", reads + constants, made))
        names += made
        makes += made
    ends = dict.fromkeys([makes[-1], *rng.choice(makes, size=rng.integers(0, 3))])
    outputs = [helper.make_tensor_value_info(str(name), TensorProto.FLOAT, ["n", 4]) for name in ends]
    return _model(nodes, inputs, outputs, [weight], domains=("test",))


@pytest.fixture(scope="session")
def make_onnx() -> Callable[..., ModelProto]:
    """Return `make(nodes, inputs, outputs, weights=(), *, opset, ir_version, domains)`."""
    return _model


@pytest.fixture(scope="session")
def residual_model() -> Callable[..., ModelProto]:
    """Return `make(*, blocks, channels, size, batch, classes, seed)` of a residual network."""
    return _residual


@pytest.fixture(scope="session")
def random_dag() -> Callable[[np.random.Generator], ModelProto]:
    """Return `make(rng)` of a random graph; it cannot be run, only analysed."""
    return _dag


@pytest.fixture(scope="session")
def residual_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a residual network with three blocks, 3x8x8 in, 5 classes out."""
    path = tmp_path_factory.mktemp("models") / "residual.onnx"
    onnx.save(_residual(), path)
    return path


def _way(
    kind,
    total_ms,
    *,
    cut="cut",
    head=0.5,
    nbytes=100,
    encoding="float32",
    shape=(1, 8, 8, 8),
    tensors=1,
    energy_j=None,
    period_ms=None,
    on_time=None,
    dead=False,
    **more,
) -> Candidate:
    names = [] if kind == "local" else [cut, *(f"{cut}{index}" for index in range(1, tensors))]
    facts = tuple(TensorFact(name=name, dtype="float32", shape=shape, nbytes=4) for name in names)
    link_s = None if dead else 0.0
    return Candidate(
        kind=kind,
        frontier=facts,
        encoding=encoding,
        payload_bytes=nbytes,
        head_share=head,
        predicted=StageTimes(device_s=total_ms / 1e3, link_s=link_s, server_s=0.0),
        figures=Figures(
            energy_j=energy_j,
            period_s=None if dead else (total_ms if period_ms is None else period_ms) / 1e3,
            on_time=on_time,
        ),
        **more,
    )


@pytest.fixture(scope="session")
def way() -> Callable[..., Candidate]:
    """Return `make(kind, total_ms, *, cut, head, nbytes, …)` of a candidate."""
    return _way


@pytest.fixture(scope="session")
def machine() -> Callable[..., MachineProfile]:
    """Return `make(name, flops_per_s, **changes)`, the profile of a machine without overheads."""

    def make(name: str, flops_per_s: float, **changes) -> MachineProfile:
        speeds = tuple(
            OperatorSpeed(
                operator=operator,
                flops_per_s=flops_per_s,
                bytes_per_s=None,
                overhead_s=0.0,
                source="published",
                origin="a test",
            )
            for operator in get_args(Operator)
        )
        fields = {"origin": "A test.", "source": "published", "processor": name, "threads": 1, **changes}
        return MachineProfile(
            name=name, provider="CPUExecutionProvider", backend="none", operators=speeds, **fields
        )

    return make


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of the real data sets; skips where there is none."""
    root = Path(os.environ.get("ISTHMUS_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip("needs the real data sets (ISTHMUS_DATA or ../shared/data)")
    return root
