"""The least device set of everything that is linear, by minimum cut, block by block.

The network has the device at its near end and the server at its far end: a node cut off from the device pays
its server cost, one cut off from the server its device cost (only the difference needs an arc). A tensor with
several readers is one vertex between its producer and them, so that it is paid for once (one with a single
reader is an arc), and an uncuttable arc from every reader back to the producer forbids a way from server to
device. Only the block that holds the border needs a cut; most blocks are ruled out by a bound that costs
nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from isthmus.partitioner.search.growth import State, members
from isthmus.partitioner.search.ideals import Block, fits
from isthmus.partitioner.search.maxflow import CutNetwork
from isthmus.partitioner.search.regions import Region, close
from isthmus.partitioner.search.scoring import Scorer


class Weights(NamedTuple):
    """A linear cost: what a unit of each total costs; `offload` is paid once if anything is on the server."""

    device_s: float = 0
    server_s: float = 0
    nbytes: float = 0
    device_j: float = 0
    weight_bytes: float = 0
    offload: float = 0

    def plus(self, other: Weights, factor: float) -> Weights:
        """Return these and `factor` times `other`."""
        return Weights(*(one + factor * two for one, two in zip(self, other, strict=True)))


class Least(NamedTuple):
    """The least value over a region, and a device set that has it (None if the region is empty)."""

    value: float
    state: State | None


class LinearSearch:
    """Minimum cuts of one region of one problem."""

    def __init__(self, scorer: Scorer, region: Region, found: Sequence[Block]) -> None:
        """Prepare `region` with its border in one of the blocks `found`, which are those of the graph."""
        self._scorer, self._region = scorer, region
        self._blocks = [block for block in found if fits(block, region)]
        tensors = scorer.graph.tensors
        self._span = [
            (-1 if tensor.producer is None else tensor.producer, max(tensor.consumers, default=-2))
            for tensor in tensors
        ]

    def value(self, weights: Weights, state: State) -> float:
        """Return what `state` costs; infinite if something crosses that may not."""
        if state.unknown or (
            self._region.barred and not self._region.barred.isdisjoint(self._scorer.frontier(state.mask))
        ):
            return math.inf
        crossing = sum(
            self.crossing_cost(weights, index)
            for index, bit in self._scorer.input_bit.items()
            if state.inputs & bit
        )
        return (
            weights.device_s * state.device_s
            + weights.server_s * (self._scorer.total_server_s - state.server_s)
            + weights.nbytes * state.nbytes
            + weights.device_j * state.device_j
            + weights.weight_bytes * state.weight_bytes
            + crossing
            + (0 if state.mask == self._scorer.full else weights.offload)
        )

    def least(self, weights: Weights, *, local: bool = True) -> Least:
        """Return the device set that costs least; without `local`, of those that need the server."""
        found = self._least(weights)
        if local or found.state is None or found.state.mask != self._scorer.full:
            return found
        # Whoever needs the server leaves it one of the nodes that nothing follows.
        best = Least(math.inf, None)
        for node in range(len(self._scorer.next)):
            if not self._scorer.next[node]:
                rest = close(self._scorer, self._region._replace(server=self._region.server | 1 << node))
                if rest is not None:
                    best = min(
                        best, LinearSearch(self._scorer, rest, self._blocks)._least(weights), key=_value
                    )
        return best

    def _least(self, weights: Weights) -> Least:
        costs = _Costs(self, weights)
        best, bounds = self._borders(costs)
        for bound, block in sorted(bounds, key=lambda item: item[0]):
            if bound >= best.value:
                break
            state = self._scorer.state_of(self._cut(costs, block))
            best = min(best, Least(self.value(weights, state), state), key=_value)
        return best

    def _borders(self, costs: _Costs) -> tuple[Least, list[tuple[float, Block]]]:
        """Return the best set that ends at a pinch, and a lower bound for every block with more sets."""
        scorer, region = self._scorer, self._region
        count = len(scorer.graph.nodes)
        crossing: list[float] = [0] * (count + 2)
        barred: list[float] = [0] * (count + 2)
        for index, (made, last) in enumerate(self._span):
            if last >= 0:
                row = barred if index in region.barred else crossing
                step = 1 if index in region.barred else costs.tensor[index]
                row[made + 1] += step
                row[last + 1] -= step
        crossing, barred = list(itertools.accumulate(crossing)), list(itertools.accumulate(barred))
        before = [0, *itertools.accumulate(costs.device)]
        behind = [0, *itertools.accumulate(reversed(costs.server))][::-1]
        values: dict[int, float] = {}
        bounds = []
        for block in self._blocks:
            for place in block:
                mask = (1 << place) - 1
                if not barred[place] and not region.device & ~mask and not region.server & mask:
                    offload = 0 if place == count else costs.weights.offload
                    values[place] = before[place] + behind[place] + crossing[place] + offload
            if block.last - block.first > 1:
                own = range(block.first, block.last)
                ending = sum(
                    costs.tensor[index]
                    for index in {index for node in own for index in scorer.read[node]}
                    if self._span[index][0] < block.first
                    and self._span[index][1] < block.last
                    and index not in region.barred
                )
                bound = before[block.first] + behind[block.last] + crossing[block.first] - ending
                bound += sum(min(costs.device[node], costs.server[node]) for node in own)
                bounds.append((bound + (0 if block.last == count else costs.weights.offload), block))
        if not values:
            return Least(math.inf, None), bounds
        place = min(values, key=lambda place: (values[place], place))
        state = scorer.state_of((1 << place) - 1)
        return Least(self.value(costs.weights, state), state), bounds

    def _cut(self, costs: _Costs, block: Block) -> int:
        """Return the best device set with its border in `block`; if there is none, one of infinite value."""
        scorer = self._scorer
        near = self._region.device | block.before
        free = block.through & ~near & ~self._region.server
        network = CutNetwork()
        vertex = {node: network.vertex() for node in members(free)}
        own = range(block.first, block.last)
        tensors = sorted({index for node in own for index in (*scorer.made[node], *scorer.read[node])})
        for node, number in vertex.items():
            saved = costs.server[node] - costs.device[node]
            if saved > 0:
                network.supply[number] += saved
            else:
                network.demand[number] -= saved
        for index in tensors:
            self._add_tensor(network, vertex, costs, index, near, free)
        side = network.near_side()
        mask = near
        for node, number in vertex.items():
            if side[number]:
                mask |= 1 << node
        return mask

    def _add_tensor(
        self, network: CutNetwork, vertex: dict[int, int], costs: _Costs, index: int, near: int, free: int
    ) -> None:
        tensor, readers = self._scorer.graph.tensors[index], self._scorer.readers[index]
        cost = costs.uncuttable if index in self._region.barred else costs.tensor[index]
        made = None if tensor.producer is None else vertex.get(tensor.producer)
        if made is None and tensor.producer is not None and not near >> tensor.producer & 1:
            return  # made on the server
        choosing = [vertex[node] for node in members(readers & free)]
        if readers & ~near & ~free:  # one reader is on the server for certain
            if made is not None:
                network.demand[made] += cost
                for reader in choosing:
                    network.arc(reader, made, costs.uncuttable)
            return
        if len(choosing) == 1:
            if made is None:
                network.supply[choosing[0]] += cost
            else:
                network.arc(made, choosing[0], cost, costs.uncuttable)
        elif choosing:
            middle = network.vertex()
            if made is None:
                network.supply[middle] += cost
            else:
                network.arc(made, middle, cost)
            for reader in choosing:
                network.arc(middle, reader, costs.uncuttable)
                if made is not None:
                    network.arc(reader, made, costs.uncuttable)

    def crossing_cost(self, weights: Weights, index: int) -> float:
        """Return what tensor `index` costs if it crosses, by the best way to send it."""
        tensor = self._scorer.graph.tensors[index]
        if tensor.producer is not None:
            return weights.nbytes * (tensor.nbytes or 0)
        return min(
            (
                weights.nbytes * way.nbytes
                + weights.device_s * way.encode_s
                + weights.server_s * way.decode_s
                + weights.device_j * way.encode_j
                for way in self._scorer.ways(index)
            ),
            default=0,
        )


class _Costs:
    """`weights` applied to every node and tensor; `uncuttable` is more than all of them together."""

    def __init__(self, search: LinearSearch, weights: Weights) -> None:
        nodes = search._scorer.graph.nodes
        self.weights = weights
        self.device = [
            weights.device_s * node.device_s
            + weights.device_j * node.device_j
            + weights.weight_bytes * node.weight_bytes
            for node in nodes
        ]
        self.server = [weights.server_s * node.server_s for node in nodes]
        self.tensor = [search.crossing_cost(weights, index) for index in range(len(search._span))]
        self.uncuttable = 1 + sum(self.device) + sum(self.server) + sum(self.tensor)


def _value(least: Least) -> float:
    return least.value
