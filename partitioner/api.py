"""`partition`: the whole way from an ONNX file to a plan."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.partitioner.answer import decide
from isthmus.partitioner.costs import measure_costs
from isthmus.partitioner.facts import (
    BottleneckAssumption,
    BottleneckRules,
    CostTable,
    DeviceProfile,
    LinkProfile,
    TensorFact,
)
from isthmus.partitioner.finals import Machines, measure_finalists
from isthmus.partitioner.images import channel_axis, image_feeds, jpeg_input, plain_input
from isthmus.partitioner.model import Network, load_network
from isthmus.partitioner.plan import Plan
from isthmus.partitioner.ranking import finalists, pareto
from isthmus.partitioner.search import CutCost, Problem, enumerate_candidates
from isthmus.runtime.errors import InputError

_PARITY_IMAGES = 4


def list_cuts(model: str | os.PathLike[str]) -> list[TensorFact]:
    """Return the single tensors at which the ONNX file `model` can be cut, in the order of execution.

    Raises:
        InputError: If the file cannot be used.
    """
    graph = load_network(model).graph
    return [graph.tensors[cut.tensor] for cut in graph.interior_cuts()]


def input_image_shape(model: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """Return height, width and channels of the image that the ONNX file `model` takes, or None.

    Raises:
        InputError: If the file cannot be used.
    """
    graph = load_network(model).graph
    fact = graph.tensors[graph.inputs[0]]
    axis = channel_axis(fact)
    if len(graph.inputs) != 1 or axis is None or fact.shape is None:
        return None
    height, width = (size for place, size in enumerate(fact.shape) if place not in (0, axis))
    return height, width, fact.shape[axis]


def partition(
    model: str | os.PathLike[str],
    *,
    link: LinkProfile,
    device: DeviceProfile | None = None,
    server: DeviceProfile | None = None,
    deadline_s: float | None = None,
    choose: Literal["latency", "bottleneck"] = "latency",
    allowed: Sequence[str] | None = None,
    modules: Mapping[str, str] | None = None,
    assumption: BottleneckAssumption | None = None,
    rules: BottleneckRules | None = None,
    images_nhwc: NDArray[np.uint8] | None = None,
    jpeg_quality: int = 90,
    measured_cuts: int = 5,
    budget_s: float = 6.0,
    halves_folder: Path | None = None,
) -> Plan:
    """Measure the network in the ONNX file `model` and say how to run it on two machines.

    All node costs are measured on this machine; every single-tensor cut is weighed with them, and the best
    are rebuilt as real halves, compared with the whole, and timed beside it.

    Args:
        model: The ONNX file.
        link: Between device and server.
        device: The device; this machine with one thread by default.
        server: The server; likewise.
        deadline_s: Budget of a frame in seconds; it is not an objective, the plan says whether it is met.
        choose: `latency` for the fastest way, which may be not to split; `bottleneck` for the best place to
            train one.
        allowed: Tensors, or modules of `modules`, that may be cut at; all by default.
        modules: Torch module path by tensor. Where given, a bottleneck stands only at a tensor that has one.
        assumption: What a bottleneck that is not trained yet is taken to cost.
        rules: Where a bottleneck may stand.
        images_nhwc: Real images uint8 [n,H,W,C]: they tell what JPEG takes, and enter the parity check.
        jpeg_quality: Of that JPEG, 1..95.
        measured_cuts: How many cuts to rebuild and time; 0 decides on predictions.
        budget_s: Seconds to spend on timing, about.
        halves_folder: Where to write head.onnx and tail.onnx of every cut that is rebuilt.

    Raises:
        InputError: If the file or a value cannot be used.
        PlanError: If an allowed cut does not exist, or a bottleneck is asked for and none can stand.
        GateError: If halves do not answer like the whole network.
    """
    device, server = device or DeviceProfile(name="device"), server or DeviceProfile(name="server")
    _check_values(deadline_s, measured_cuts, budget_s)
    network = load_network(model)
    allowed = None if allowed is None else _tensors(allowed, modules or {})
    for name in allowed or ():
        network.graph.require_cut([name], network.name)
    facts = tuple(network.graph.tensors[name] for name in network.graph.inputs)
    real = [] if images_nhwc is None else image_feeds(facts, images_nhwc, _PARITY_IMAGES)
    device_costs = measure_costs(network, threads=device.threads, budget_s=budget_s / 2)
    server_costs = device_costs
    if server.threads != device.threads:
        server_costs = measure_costs(network, threads=server.threads, budget_s=budget_s / 2)
    raw = [plain_input(facts)]
    if images_nhwc is not None:
        raw.append(jpeg_input(images_nhwc, jpeg_quality, device=device, server=server))
    rules, assumption = rules or BottleneckRules(), assumption or BottleneckAssumption()
    problem = Problem(
        inputs=facts,
        raw=tuple(raw),
        local_s=device_costs.whole_s / device.speed,
        remote_s=server_costs.whole_s / server.speed,
        cuts=_cut_costs(network, device_costs, server_costs, device, server, modules or {}),
        link=link,
        assumption=assumption,
        rules=rules,
        allowed=None if allowed is None else frozenset(allowed),
        needs_module=modules is not None,
    )
    candidates = enumerate_candidates(problem)
    if measured_cuts:
        candidates = measure_finalists(
            network,
            candidates,
            finalists(candidates, rules, measured_cuts),
            problem,
            Machines(device=device, server=server),
            real=real,
            budget_s=budget_s / 2,
            folder=halves_folder,
        )
    return Plan(
        model=network.name,
        model_digest=network.digest,
        device=device,
        server=server,
        link=link,
        deadline_s=deadline_s,
        objective=choose,
        device_costs=device_costs,
        server_costs=server_costs,
        assumption=assumption,
        rules=rules,
        candidates=tuple(candidates),
        pareto=pareto(candidates),
        choice=decide(
            candidates, objective=choose, rules=rules, assumption=assumption, deadline_s=deadline_s
        ),
    )


def _tensors(names: Sequence[str], modules: Mapping[str, str]) -> list[str]:
    """Return the tensors that `names` means: a module stands for its output."""
    outputs = {module: tensor for tensor, module in modules.items()}
    return [outputs.get(name, name) for name in names]


def _check_values(deadline_s: float | None, measured_cuts: int, budget_s: float) -> None:
    if deadline_s is not None and not 0 < deadline_s < float("inf"):
        raise InputError(f"deadline {deadline_s} s is not above 0; give it as e.g. 100ms")
    if measured_cuts < 0:
        raise InputError(f"{measured_cuts} cuts to measure; give 0 or more")
    if not 0 < budget_s < float("inf"):
        raise InputError(f"measuring budget {budget_s} s is not above 0; give it as e.g. 6s")


def _cut_costs(
    network: Network,
    device_costs: CostTable,
    server_costs: CostTable,
    device: DeviceProfile,
    server: DeviceProfile,
    modules: Mapping[str, str],
) -> tuple[CutCost, ...]:
    """Return every interior cut with its halves' times: heads are prefixes of the nodes' order."""
    keys = [node.key for node in network.graph.nodes]
    on_device = [0.0, *itertools.accumulate(device_costs.node_s[key] for key in keys)]
    on_server = [0.0, *itertools.accumulate(server_costs.node_s[key] for key in keys)]
    return tuple(
        CutCost(
            tensor=network.graph.tensors[cut.tensor],
            head_device_s=on_device[cut.head_nodes] / device.speed,
            head_server_s=on_server[cut.head_nodes] / server.speed,
            tail_server_s=(on_server[-1] - on_server[cut.head_nodes]) / server.speed,
            head_share=min(1.0, on_device[cut.head_nodes] / on_device[-1]) if on_device[-1] else 0.0,
            module=modules.get(cut.tensor),
        )
        for cut in network.graph.interior_cuts()
    )
