"""The trained bottleneck of a bundle as candidates: its own heads, tail, bytes and accuracies.

Decides what of a bundle counts: a head's time as measured on this machine, or as the device's profile gives
it, by the digest of the file or estimated; payload bytes and accuracies as measured when it was exported.
Coding the payload is left out: it takes well below a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.partitioner.costs.lookup import node_costs
from isthmus.partitioner.costs.memory import half_memory
from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.images import channel_axis
from isthmus.partitioner.network.model import Network, load_network
from isthmus.partitioner.plan import BundleFacts, LearnedPoint
from isthmus.partitioner.running.execution import random_feed, time_side_by_side
from isthmus.partitioner.search import Bottleneck
from isthmus.partitioner.sides import Side
from isthmus.runtime.bundle import TAIL, Bundle, head_name
from isthmus.runtime.errors import PlanError
from isthmus.runtime.machines import MachineProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedWay:
    """One operating point of a bundle.

    Attributes:
        point: Which, with its accuracy.
        head_s: Seconds of its head on the device.
        tail_s: Seconds of the tail on the server, decoder included.
        nbytes: Mean bytes of a payload.
        memory_bytes: Weights and live tensors of the head.
        measured: Whether one of the two was measured on this machine.
        spread_s: Interquartile ranges of what was measured, on this machine.
    """

    point: LearnedPoint
    head_s: float
    tail_s: float
    nbytes: int
    memory_bytes: int
    measured: bool
    spread_s: float | None

    def for_search(self, cut: str, server_behind_s: float, energy: EnergyModel) -> Bottleneck:
        """Return it at the tensor `cut`, behind which the plain network takes `server_behind_s`."""
        return Bottleneck(
            name=f"width {self.point.width:g}, {self.point.channels} channels",
            cut=frozenset({cut}),
            encoder_s=self.head_s,
            # The bundle's tail holds decoder and rest in one; a runtime may make it quicker than its parts.
            decoder_s=max(0.0, self.tail_s - server_behind_s),
            nbytes=self.nbytes,
            accuracy=self.point.accuracy,
            encoder_j=energy.compute_j(self.head_s),
            memory_bytes=self.memory_bytes,
        )


def locate_cut(network: Network, bundle: Bundle, at: str | None, modules: Mapping[str, str]) -> BundleFacts:
    """Return what a plan says of `bundle`, with the tensor of `network` that its bottleneck stands for.

    Args:
        network: The network it was made of.
        bundle: The bundle.
        at: The tensor or module, where the bundle's own word for it does not say.
        modules: Torch module path by tensor.

    Raises:
        PlanError: If the bundle is of another network, or its cut is not found.
    """
    spec, facts = bundle.manifest.input, [network.graph.tensors[name] for name in network.graph.inputs]
    wanted = sorted((spec.height, spec.width, spec.channels))
    axis = channel_axis(facts[0]) if len(facts) == 1 else None
    if axis is None or facts[0].shape is None or sorted(facts[0].shape[1:]) != wanted:
        shapes = ", ".join(str(list(fact.shape or ())) for fact in facts)
        raise PlanError(
            f"{bundle.root}: takes images of {spec.height}x{spec.width}x{spec.channels}, {network.name} "
            f"takes {shapes}; give the bundle of this network"
        )
    name = at or bundle.manifest.provenance.get("cut", "")
    tensor = {module: tensor for tensor, module in modules.items()}.get(name, name)
    if tensor not in network.graph.tensors:
        raise PlanError(
            f"{bundle.root}: was trained at {name!r}, which is no tensor or known module of {network.name}; "
            "name its tensor with --bundle-cut, or give the torch network with --model"
        )
    network.graph.require_cut([tensor], network.name)
    return BundleFacts(
        name=bundle.manifest.name,
        digest=bundle.digest,
        cut=tensor,
        measured_on=bundle.points.measured_on,
    )


def learned_ways(bundle: Bundle, device: Side, server: Side, *, budget_s: float) -> list[LearnedWay]:
    """Return the operating points of `bundle`, timed; measuring takes about `budget_s` seconds.

    Raises:
        ArtifactError: If a machine's profile can neither give nor estimate a network of the bundle.
        InputError: If ONNX Runtime cannot run one.
    """
    names = [head_name(width) for width in bundle.manifest.widths]
    networks = {name: load_network(bundle.root / name) for name in (*names, TAIL)}
    sides = {**dict.fromkeys(names, device), TAIL: server}
    measured = _measure(networks, sides, budget_s)
    seconds = {
        name: side.here_s(measured[name][0]) if name in measured else _from_profile(networks[name], side)
        for name, side in sides.items()
    }
    memories = {name: half_memory(networks[name].proto, networks[name].graph.tensors) for name in names}
    ways = []
    for record in bundle.points.records:
        name = names[record.point.width_index]
        spreads = [measured[key][1] for key in (name, TAIL) if key in measured]
        ways.append(
            LearnedWay(
                point=LearnedPoint(
                    width=bundle.manifest.widths[record.point.width_index],
                    channels=record.point.channels,
                    accuracy=record.utility,
                ),
                head_s=seconds[name],
                tail_s=seconds[TAIL],
                nbytes=round(record.bytes_mean),
                memory_bytes=memories[name].weight_bytes + memories[name].activation_bytes,
                measured=bool(spreads),
                spread_s=sum(spreads) if spreads else None,
            )
        )
    return ways


def _measure(
    networks: Mapping[str, Network], sides: Mapping[str, Side], budget_s: float
) -> dict[str, tuple[float, float]]:
    """Return median and spread of the networks that run on this machine, timed side by side."""
    calls: dict[str, Callable[[], object]] = {}
    clocks = []
    for name, side in sides.items():
        if side.runner is None:
            continue
        network, rng = networks[name], np.random.default_rng(0)
        feed = random_feed([network.shapes.fact(value.name) for value in network.proto.graph.input], rng)
        calls[name], _ = side.runner.prepare(network.original, network, feed)
        clocks.append(side.runner.clock)
    if not calls:
        return {}
    clock = next((clock for clock in clocks if clock.name == "wall"), clocks[0])
    timings = time_side_by_side(calls, budget_s=budget_s, clock=clock)
    return {name: (timing.median_s, timing.spread_s) for name, timing in timings.items()}


def _from_profile(network: Network, side: Side) -> float:
    assert isinstance(side.profile, MachineProfile), "what does not run here has a profile"
    return node_costs(network, side.profile).whole_s
