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

# With so many ends of a network, each is looked at for the best set that needs the server.
_MOST_ENDS = 16


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
        """Return the device set that costs least.

        Without `local` it is the least of those that need the server. Where the network has more than
        `_MOST_ENDS` ends the value is then only a lower bound, and the set may be everything.
        """
        found = self._least(weights)
        if local or found.state is None or found.state.mask != self._scorer.full:
            return found
        # Whoever needs the server leaves it one of the nodes that nothing follows.
        ends = [node for node, after in enumerate(self._scorer.next) if not after]
        if len(ends) > _MOST_ENDS:
            return found
        best = Least(math.inf, None)
        for node in ends:
            rest = close(self._scorer, self._region._replace(server=self._region.server | 1 << node))
            if rest is not None:
                best = min(best, LinearSearch(self._scorer, rest, self._blocks)._least(weights), key=_value)
        return best

    def _least(self, weights: Weights) -> Least:
        costs = _Costs(self, weights)
        least, best, bounds = self._borders(costs)
        for bound, base, block in sorted(bounds):
            if bound >= least:
                break
            mask = self._cut(costs, block)
            value = base + self._own_cost(costs, block, mask)
            if value < least:
                least, best = value, mask
        if best is None:
            return Least(math.inf, None)
        state = self._scorer.state_of(best)
        return Least(self.value(weights, state), state)

    def _borders(self, costs: _Costs) -> tuple[float, int | None, list[tuple[float, float, Block]]]:
        """Return the best set that ends at a pinch with its value, and the blocks that may have a better one.

        With each of these come a lower bound and what its surroundings cost, wherever the border is in it.
        """
        scorer, region = self._scorer, self._region
        crossing, barred = self._crossing(costs)
        before = [0, *itertools.accumulate(costs.device)]
        behind = [0, *itertools.accumulate(reversed(costs.server))][::-1]
        count = len(scorer.graph.nodes)
        least, best, bounds = math.inf, None, []
        for block in self._blocks:
            for place in block:
                mask = (1 << place) - 1
                if not barred[place] and not region.device & ~mask and not region.server & mask:
                    value = before[place] + behind[place] + crossing[place]
                    value += 0 if place == count else costs.weights.offload
                    if value < least:
                        least, best = value, mask
            if block.last - block.first > 1:
                ending = {
                    index
                    for index in self._tensors_of(block)
                    if self._span[index][0] < block.first and self._span[index][1] < block.last
                }
                if barred[block.first] > len(ending & region.barred):
                    continue  # something that may not cross passes by
                base = before[block.first] + behind[block.last] + crossing[block.first]
                base -= sum(costs.tensor[index] for index in ending - region.barred)
                bound = base + (0 if block.last == count else costs.weights.offload)
                for node in range(block.first, block.last):
                    bound += min(costs.device[node], costs.server[node])
                bounds.append((bound, base, block))
        return least, best, bounds

    def _crossing(self, costs: _Costs) -> tuple[list[float], list[int]]:
        """Return what crosses at every place in the nodes' order: its cost, and how many may not."""
        count = len(self._scorer.graph.nodes)
        cost: list[float] = [0] * (count + 2)
        barred = [0] * (count + 2)
        for index, (made, last) in enumerate(self._span):
            if last < 0:
                continue
            if index in self._region.barred:
                barred[made + 1] += 1
                barred[last + 1] -= 1
            else:
                cost[made + 1] += costs.tensor[index]
                cost[last + 1] -= costs.tensor[index]
        return list(itertools.accumulate(cost)), list(itertools.accumulate(barred))

    def _tensors_of(self, block: Block) -> set[int]:
        made, read = self._scorer.made, self._scorer.read
        return {index for node in range(*block) for index in (*made[node], *read[node])}

    def _own_cost(self, costs: _Costs, block: Block, mask: int) -> float:
        """Return what the device set `mask` costs in `block`, beside its surroundings."""
        total = 0 if mask == self._scorer.full else costs.weights.offload
        for node in range(*block):
            total += costs.device[node] if mask >> node & 1 else costs.server[node]
        for index in sorted(self._tensors_of(block)):
            made, last = self._span[index]
            passes_by = made < block.first and last >= block.last
            on_device = made < block.first or mask >> made & 1
            if not passes_by and on_device and self._scorer.readers[index] & ~mask:
                if index in self._region.barred:
                    return math.inf
                total += costs.tensor[index]
        return total

    def _cut(self, costs: _Costs, block: Block) -> int:
        """Return the best device set with its border in `block`; if there is none, one of infinite value."""
        near = self._region.device | block.before
        free = block.through & ~near & ~self._region.server
        network = CutNetwork()
        vertex = {node: network.vertex() for node in members(free)}
        for node, number in vertex.items():
            saved = costs.server[node] - costs.device[node]
            if saved > 0:
                network.supply[number] += saved
            else:
                network.demand[number] -= saved
        for index in sorted(self._tensors_of(block)):
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
