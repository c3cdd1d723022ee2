"""From what a user asks to candidates with predicted times: machines, inputs, constraints, the search.

Decides in which order things are checked: everything that can be wrong is found before anything is measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.partitioner.bottlenecks import Assumptions
from isthmus.partitioner.candidates import Lister
from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules, DeviceProfile, LinkProfile
from isthmus.partitioner.figures import FigureMaker
from isthmus.partitioner.images import jpeg_input, raw_inputs
from isthmus.partitioner.learned import LearnedWay, learned_ways, locate_cut
from isthmus.partitioner.links import TraceLink, crossing_of
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.plan import Asked, BundleFacts, Candidate
from isthmus.partitioner.question import resolve_cuts, resolve_pins, search_graph
from isthmus.partitioner.search import (
    ENERGY,
    LATENCY,
    THROUGHPUT,
    Constraints,
    Found,
    Objective,
    RawInput,
    SearchProblem,
    search,
)
from isthmus.partitioner.sides import MachineSpec, Side, SideMaker, resolve_profile
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import MachineProfile, Power


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `partition` is asked; its arguments under the same names."""

    network: Network
    link: LinkProfile | TraceLink
    device: MachineSpec
    server: MachineSpec
    objective: Objective
    choose: Literal["best", "bottleneck"]
    deadline_s: float | None
    deadline_probability: float
    device_memory_bytes: int | None
    no_raw_input: bool
    pins: Mapping[str, str]
    allowed: Sequence[str | Sequence[str]] | None
    power: Power | None
    bundle: Bundle | None
    bundle_cut: str | None
    max_accuracy_loss: float
    modules: Mapping[str, str] | None
    assumption: BottleneckAssumption
    rules: BottleneckRules
    images_nhwc: NDArray[np.uint8] | None
    jpeg_quality: int
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The answer of the search, and what made it.

    Attributes:
        candidates: With predicted times.
        found: What the search says.
        asked: Objective and constraints, names resolved.
        lister: What made the candidates.
        bundle: What the plan says of the bundle.
    """

    candidates: list[Candidate]
    found: Found
    asked: Asked
    lister: Lister
    bundle: BundleFacts | None


def ask(question: Question) -> Weighed:
    """Return every candidate of `question`.

    Raises:
        InputError, PlanError, ArtifactError: As `partition` says.
    """
    network, bundle = question.network, question.bundle
    profiles = resolve_profile(question.device, "device"), resolve_profile(question.server, "server")
    asked = _asked(question, profiles[0])
    located = None
    if bundle is not None:
        located = locate_cut(network, bundle, question.bundle_cut, question.modules or {})
    radio = None if question.power else getattr(profiles[0], "radio", None)
    energy = EnergyModel.of(question.power or getattr(profiles[0], "power", None), radio)
    goal = question.objective
    if goal.kind == "energy" or (goal.kind == "weighted" and goal.beta):
        energy.require(profiles[0].name)
    maker = SideMaker(network, budget_s=question.budget_s / 2)
    # Another machine first: what its profile cannot say is found before anything is measured.
    order = sorted(range(2), key=lambda index: isinstance(profiles[index], DeviceProfile))
    made = {index: maker.make(profiles[index], (question.power, None)[index]) for index in order}
    raw = _raw(question, maker, made[0], made[1], energy)
    lister = _lister(question, asked, made[0], made[1], raw, energy, located)
    listed, bottlenecks = lister.listed()
    founds = _search(dataclasses.replace(lister.problem, bottlenecks=tuple(bottlenecks)), asked, energy)
    return Weighed(
        candidates=[*listed, *lister.beyond(founds, listed)],
        found=founds[0],
        asked=asked,
        lister=lister,
        bundle=located,
    )


def _lister(
    question: Question,
    asked: Asked,
    device: Side,
    server: Side,
    raw: Mapping[str, tuple[RawInput, ...]],
    energy: EnergyModel,
    located: BundleFacts | None,
) -> Lister:
    """Return what makes the candidates of `question`; the bundle's networks are timed here."""
    network, bundle, crossing = question.network, question.bundle, crossing_of(question.link)
    learned: dict[str, list[LearnedWay]] = {}
    if bundle is not None and located is not None:
        learned[located.cut] = learned_ways(bundle, device, server, budget_s=question.budget_s / 8)
    accuracy = None if bundle is None else bundle.points.teacher_utility
    return Lister(
        network=network,
        device=device,
        server=server,
        problem=SearchProblem(
            graph=search_graph(network, device, server, energy, asked.pins),
            link=crossing.for_search(
                min(sum(ways[index].nbytes for ways in raw.values()) for index in (0, -1))
            ),
            power=energy.for_search(),
            raw=raw,
            constraints=_constraints(asked),
            accuracy=accuracy,
        ),
        figures=FigureMaker(crossing=crossing, energy=energy, deadline_s=asked.deadline_s),
        energy=energy,
        assumptions=Assumptions(
            network=network,
            device=device,
            server=server,
            assumption=question.assumption,
            rules=question.rules,
            raw_bytes=sum(ways[0].nbytes for ways in raw.values()),
            modules=question.modules,
        ),
        learned=learned,
        modules=question.modules or {},
        accuracy=accuracy,
    )


def _asked(question: Question, device: MachineProfile | DeviceProfile) -> Asked:
    memory = question.device_memory_bytes
    if memory is None and isinstance(device, MachineProfile):
        memory = device.memory_bytes
    if memory is not None and memory < 0:
        raise InputError(f"device memory of {memory} bytes; give at least 0")
    if question.deadline_s is not None and not 0 < question.deadline_s < math.inf:
        raise InputError(f"deadline {question.deadline_s} s is not above 0; give it as e.g. 100ms")
    if not 0 < question.deadline_probability <= 1:
        raise InputError(f"deadline probability {question.deadline_probability} is not in (0, 1]")
    if question.objective.kind == "on-time" and question.deadline_s is None:
        raise InputError("objective 'on-time' needs a deadline; give one as e.g. 100ms")
    network, allowed, bundle = question.network, question.allowed, question.bundle
    least = None if bundle is None else bundle.points.teacher_utility - question.max_accuracy_loss
    return Asked(
        objective=question.objective,
        choose=question.choose,
        deadline_s=question.deadline_s,
        deadline_probability=question.deadline_probability,
        device_memory_bytes=memory,
        no_raw_input=question.no_raw_input,
        pins=resolve_pins(network, question.pins),
        allowed=None if allowed is None else resolve_cuts(network, allowed, question.modules or {}),
        least_accuracy=least,
    )


def _constraints(asked: Asked) -> Constraints:
    """Return the constraints but for the deadline, which prefers and does not refuse."""
    cuts = None if asked.allowed is None else frozenset(frozenset(cut) for cut in asked.allowed)
    return Constraints(
        device_memory_bytes=asked.device_memory_bytes, no_raw_input=asked.no_raw_input, allowed_cuts=cuts
    )


def _search(problem: SearchProblem, asked: Asked, energy: EnergyModel) -> list[Found]:
    """Return what is best within the deadline and, where nothing keeps it, what is best without it."""
    objectives = {item.name: item for item in (asked.objective, LATENCY, THROUGHPUT)}
    if energy.known:
        objectives[ENERGY.name] = ENERGY
    wanted = list(objectives.values())
    if asked.deadline_s is None:
        return [search(problem, wanted)]
    limits = dataclasses.replace(
        problem.constraints,
        deadline_s=asked.deadline_s,
        deadline_probability=asked.deadline_probability,
    )
    within = search(dataclasses.replace(problem, constraints=limits), wanted)
    if within.best[asked.objective.name].split is not None:
        return [within]
    return [within, search(problem, [item for item in wanted if item.kind != "on-time"])]


def _raw(
    question: Question, maker: SideMaker, device: Side, server: Side, energy: EnergyModel
) -> dict[str, tuple[RawInput, ...]]:
    """Return the ways to send every input; JPEG is coded here and scaled to the machines."""
    inputs = [question.network.graph.tensors[name] for name in question.network.graph.inputs]
    if question.images_nhwc is None:
        return raw_inputs(inputs, None)

    def slower(side: Side) -> float:
        if side.facts.here:
            return 1 / side.facts.speed
        # Another machine codes as much slower as it runs the network; an accelerator does not code at all.
        return max(1.0, side.whole_s / maker.whole_here_s(1))

    jpeg = jpeg_input(
        question.images_nhwc,
        question.jpeg_quality,
        device_slower=slower(device),
        server_slower=slower(server),
    )
    return raw_inputs(inputs, dataclasses.replace(jpeg, encode_j=energy.compute_j(jpeg.encode_s)))
