"""Bottlenecks that nobody has trained: where one may stand, and what it is assumed to cost.

Every figure here rests on `BottleneckAssumption`; candidates made of them say so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from isthmus.partitioner.energy import EnergyModel
from isthmus.partitioner.facts import BottleneckAssumption, BottleneckRules, TensorFact
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.plan import StageTimes
from isthmus.partitioner.search import Bottleneck, Split
from isthmus.partitioner.sides import Side

ASSUMED_ENCODING = "assumed latent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What the bottlenecks of one network are assumed to be.

    Attributes:
        network: The network.
        device, server: The machines.
        assumption: What an encoder and a decoder cost.
        rules: Where they may stand.
        raw_bytes: Bytes of the plain input.
        modules: Torch module path by tensor, or None where bottlenecks need none.
    """

    network: Network
    device: Side
    server: Side
    assumption: BottleneckAssumption
    rules: BottleneckRules
    raw_bytes: int
    modules: Mapping[str, str] | None = None

    def payload_bytes(self, tensor: TensorFact) -> int:
        """Return the payload assumed for a bottleneck at `tensor`."""
        if self.assumption.payload_bytes is not None:
            return self.assumption.payload_bytes
        largest = self.assumption.max_raw_fraction * self.raw_bytes
        return math.ceil(min(self.assumption.compression * tensor.elements, largest))

    def times(self, *, head_device_s: float, head_server_s: float, tail_s: float) -> StageTimes:
        """Return the stage times of a bottleneck in place of such a head; the link is not in them."""
        return StageTimes(
            device_s=self.assumption.encoder_fraction * head_device_s,
            link_s=None,
            server_s=self.assumption.decoder_fraction * head_server_s + tail_s,
        )

    def for_search(self, split: Split, energy: EnergyModel) -> Bottleneck:
        """Return the bottleneck in place of the head of the plain `split`, at one tensor."""
        (name,) = split.frontier
        head = [self.network.graph.nodes[index].key for index in split.device_nodes]
        on_device, on_server = self.device.nodes_s(), self.server.nodes_s()
        times = self.times(
            head_device_s=math.fsum(on_device[key] for key in head),
            head_server_s=math.fsum(on_server[key] for key in head),
            tail_s=0.0,
        )
        return Bottleneck(
            name=f"assumed at {name}",
            cut=frozenset(split.frontier),
            encoder_s=times.device_s,
            decoder_s=times.server_s,
            nbytes=self.payload_bytes(self.network.graph.tensors[name]),
            encoder_j=energy.compute_j(times.device_s),
            # An encoder does less than the head that it replaces; that it needs no more memory is assumed.
            memory_bytes=split.memory_bytes,
        )

    def unfit(self, tensor: TensorFact, head_share: float, encoder_s: float) -> str | None:
        """Return why no bottleneck may stand at the feature map `tensor`, or None."""
        rules, shape = self.rules, tensor.shape
        assert shape is not None, "only feature maps get here"
        if self.modules is not None and tensor.name not in self.modules:
            return "no module of the network has this output"
        if min(shape[2:]) < rules.min_side:
            return f"feature map below {rules.min_side}x{rules.min_side}"
        if head_share < rules.min_head_share:
            return f"head below {rules.min_head_share:.0%} of the network's time"
        if 1 - head_share < rules.min_tail_share:
            return f"tail below {rules.min_tail_share:.0%} of the network's time"
        if rules.encoder_budget_s is not None and encoder_s > rules.encoder_budget_s:
            return f"encoder above its budget of {rules.encoder_budget_s * 1e3:.3g} ms"
        return None


def is_feature_map(tensor: TensorFact) -> bool:
    """Say whether a convolutional bottleneck could stand at `tensor`: a float map [1, C, h, w]."""
    is_float = tensor.dtype.startswith(("float", "bfloat"))
    return is_float and tensor.shape is not None and len(tensor.shape) == 4


def share_before(costs_s: Mapping[str, float], nodes: Collection[str]) -> float:
    """Return the share of the network's time that `nodes` take, in [0, 1]."""
    total = math.fsum(costs_s.values())
    return min(1.0, math.fsum(costs_s[key] for key in nodes) / total) if total else 0.0
