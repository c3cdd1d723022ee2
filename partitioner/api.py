"""`partition`: the whole way from an ONNX file to a plan."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.partitioner.answer import decide
from isthmus.partitioner.asking import Question, ask
from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules, LinkProfile, TensorFact
from isthmus.partitioner.finals import Finals
from isthmus.partitioner.goal import Goal
from isthmus.partitioner.images import channel_axis, check_quality, image_feeds
from isthmus.partitioner.links import TraceLink
from isthmus.partitioner.network.model import load_network
from isthmus.partitioner.plan import Plan, Searched
from isthmus.partitioner.ranking import finalists, pareto
from isthmus.partitioner.search import ENERGY, LATENCY, ON_TIME, THROUGHPUT, Found, Objective
from isthmus.partitioner.sides import MachineSpec
from isthmus.runtime.bundle import Bundle, load_bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import Power

ObjectiveName = Literal["latency", "energy", "throughput", "on-time"]

_PARITY_IMAGES = 4
_NAMED = {item.kind: item for item in (LATENCY, ENERGY, THROUGHPUT, ON_TIME)}


def list_cuts(model: str | os.PathLike[str], *, sizes: Mapping[str, int] | None = None) -> list[TensorFact]:
    """Return the single tensors at which the ONNX file `model` can be cut, in the order of execution.

    Args:
        model: The ONNX file.
        sizes: Sizes for symbolic dimensions other than the batch, by their names.

    Raises:
        InputError: If the file cannot be used.
    """
    graph = load_network(model, sizes=sizes).graph
    return [graph.tensors[cut.tensor] for cut in graph.interior_cuts()]


def input_image_shape(
    model: str | os.PathLike[str], *, sizes: Mapping[str, int] | None = None
) -> tuple[int, int, int] | None:
    """Return height, width and channels of the image that the ONNX file `model` takes, or None.

    Args:
        model: The ONNX file.
        sizes: Sizes for symbolic dimensions other than the batch, by their names.

    Raises:
        InputError: If the file cannot be used.
    """
    graph = load_network(model, sizes=sizes).graph
    fact = graph.tensors[graph.inputs[0]]
    axis = channel_axis(fact)
    if len(graph.inputs) != 1 or axis is None or fact.shape is None:
        return None
    height, width = (size for place, size in enumerate(fact.shape) if place not in (0, axis))
    return height, width, fact.shape[axis]


def partition(
    model: str | os.PathLike[str],
    *,
    link: LinkProfile | TraceLink,
    device: MachineSpec = None,
    server: MachineSpec = None,
    objective: ObjectiveName | Objective = "latency",
    choose: Literal["best", "bottleneck"] = "best",
    deadline_s: float | None = None,
    deadline_probability: float = 0.95,
    device_memory_bytes: int | None = None,
    no_raw_input: bool = False,
    pins: Mapping[str, str] | None = None,
    allowed: Sequence[str | Sequence[str]] | None = None,
    power: Power | None = None,
    bundle: Bundle | str | os.PathLike[str] | None = None,
    bundle_cut: str | None = None,
    max_accuracy_loss: float = 0.02,
    modules: Mapping[str, str] | None = None,
    assumption: BottleneckAssumption | None = None,
    rules: BottleneckRules | None = None,
    images_nhwc: NDArray[np.uint8] | None = None,
    jpeg_quality: int = 90,
    sizes: Mapping[str, int] | None = None,
    measured_cuts: int = 5,
    budget_s: float = 6.0,
    halves_folder: Path | None = None,
) -> Plan:
    """Say how to run the network in the ONNX file `model` on two machines, with every figure behind it.

    Every set of nodes that the device can run is weighed by node costs, cuts at several tensors included; the
    best cuts are rebuilt as real halves, compared with the whole and, for a machine that is this one, timed
    beside it. A split's latency is device time + bytes / rate + RTT + server time (Kang et al.,
    "Neurosurgeon", ASPLOS 2017); `isthmus.partitioner.search` finds the best exactly.

    Args:
        model: The ONNX file.
        link: Between device and server: a constant rate, or a trace of it.
        device: The device: a `DeviceProfile` (this machine, measured now, with threads and speed), a
            `MachineProfile`, its file, the name of a reference (`pi4`), or None for this machine.
        server: The server, likewise.
        objective: What to minimise: expected latency, joules of the device, the longest of device, link and
            server (`throughput`), late frames (`on-time`, needs a deadline), or an `Objective` of kind
            `weighted` (alpha · seconds + beta · joules).
        choose: `best`, which may be not to split; or `bottleneck` for the best place to train one.
        deadline_s: Most seconds from capture to answer. What meets it is preferred; where nothing does, the
            plan says so.
        deadline_probability: Share of frames that have to meet it over a trace, in (0, 1].
        device_memory_bytes: Most bytes of weights and live tensors on the device; by default its profile's.
        no_raw_input: No input of the network may leave the device: a rule, not a proof of privacy.
        pins: `device` or `server` by a tensor that a node makes, or by an operator type.
        allowed: Cuts that may be used: a tensor, a module of `modules`, or several tensors (also joined by
            `+`); all by default.
        power: Watts of the device instead of its profile's; without any, energy stays unknown.
        bundle: A trained bottleneck of this network, weighed with its own times, bytes and accuracies.
        bundle_cut: The tensor or module it was trained at, where `modules` do not tell.
        max_accuracy_loss: A trained bottleneck that loses more against the uncut network, in [0, 1], is
            listed but not chosen.
        modules: Torch module path by tensor. Where given, a bottleneck to train stands only at one of these.
        assumption: What a bottleneck that is not trained yet is taken to cost.
        rules: Where such a bottleneck may stand.
        images_nhwc: Real images uint8 [n,H,W,C]: they tell what JPEG takes, and enter the parity check.
        jpeg_quality: Of that JPEG, 1..95.
        sizes: Sizes for symbolic dimensions other than the batch, by their names.
        measured_cuts: How many cuts to rebuild and time; 0 decides on predictions.
        budget_s: Seconds to spend on timing, about.
        halves_folder: Where to write head.onnx and tail.onnx of every cut that is rebuilt.

    Raises:
        InputError: If the file or a value cannot be used, or energy is sought and the watts are unknown.
        PlanError: If a cut or a pinned node does not exist, nothing keeps the constraints, or a bottleneck is
            asked for and none can stand.
        ArtifactError: If a machine's profile or the bundle cannot be read, or the profile can neither give
            nor estimate the network's costs.
        GateError: If halves do not answer like the whole network.
    """
    _check_values(measured_cuts, budget_s, max_accuracy_loss, jpeg_quality)
    network = load_network(model, sizes=sizes)
    facts = tuple(network.graph.tensors[name] for name in network.graph.inputs)
    real = [] if images_nhwc is None else image_feeds(facts, images_nhwc, _PARITY_IMAGES)
    question = Question(
        network=network,
        link=link,
        device=device,
        server=server,
        objective=_NAMED[objective] if isinstance(objective, str) else objective,
        choose=choose,
        deadline_s=deadline_s,
        deadline_probability=deadline_probability,
        device_memory_bytes=device_memory_bytes,
        no_raw_input=no_raw_input,
        pins=pins or {},
        allowed=allowed,
        power=power,
        bundle=bundle if isinstance(bundle, Bundle) or bundle is None else load_bundle(Path(bundle)),
        bundle_cut=bundle_cut,
        max_accuracy_loss=max_accuracy_loss,
        modules=modules,
        assumption=assumption or BottleneckAssumption(),
        rules=rules or BottleneckRules(),
        images_nhwc=images_nhwc,
        jpeg_quality=jpeg_quality,
        budget_s=budget_s,
    )
    weighed = ask(question)
    candidates, goal = weighed.candidates, Goal(asked=weighed.asked)
    front = pareto(candidates)
    lister = weighed.lister
    if measured_cuts:
        candidates = Finals(
            network=network,
            device=lister.device,
            server=lister.server,
            assumptions=lister.assumptions,
            figures=lister.figures,
        ).measure(
            candidates,
            finalists(candidates, question.rules, goal, measured_cuts),
            real=real,
            budget_s=budget_s / 2,
            folder=halves_folder,
        )
    return Plan(
        model=network.name,
        model_digest=network.digest,
        device=lister.device.facts,
        server=lister.server.facts,
        link=lister.figures.crossing.facts,
        asked=weighed.asked,
        device_costs=lister.device.costs,
        server_costs=lister.server.costs,
        energy=lister.energy.basis,
        accuracy=lister.accuracy,
        bundle=weighed.bundle,
        assumption=question.assumption,
        rules=question.rules,
        searched=_searched(weighed.found, question.objective),
        candidates=tuple(candidates),
        pareto=front,
        choice=decide(candidates, goal, rules=question.rules, assumption=question.assumption),
    )


def _searched(found: Found, objective: Objective) -> Searched:
    return Searched(how=found.how, considered=found.considered, proven=found.best[objective.name].proven)


def _check_values(measured_cuts: int, budget_s: float, max_accuracy_loss: float, jpeg_quality: int) -> None:
    if measured_cuts < 0:
        raise InputError(f"{measured_cuts} cuts to measure; give 0 or more")
    if not 0 < budget_s < math.inf:
        raise InputError(f"measuring budget {budget_s} s is not above 0; give it as e.g. 6s")
    if not 0 <= max_accuracy_loss <= 1:
        raise InputError(
            f"accuracy loss {max_accuracy_loss} is not in [0, 1]; 0.02 is two points of a hundred"
        )
    check_quality(jpeg_quality)
