"""Every predecessor-closed device set (an ideal of the graph), each exactly once, block by block.

A *pinch* is a place in the nodes' order where every node after it depends on every node before it. A device
set that has any node behind a pinch then has all before it, so that the sets of a network are those of its
blocks, side by side, and their numbers add instead of multiplying. Behind a single-tensor cut of a network
without dead ends there is a pinch; a dead end, a side output or an input that enters later can take it away,
which is why pinches are computed from the ancestors and not from the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from isthmus.partitioner.search.growth import Growth, State, members
from isthmus.partitioner.search.regions import Region


class Block(NamedTuple):
    """The nodes from `first` up to, not including, `last`: pinches are at both ends."""

    first: int
    last: int

    @property
    def before(self) -> int:
        """The nodes before it."""
        return (1 << self.first) - 1

    @property
    def through(self) -> int:
        """The nodes before it and its own."""
        return (1 << self.last) - 1


def blocks(growth: Growth) -> list[Block]:
    """Return the blocks of the graph, in order, in time O(V·(V+E)) of single bits."""
    count = len(growth.graph.nodes)
    found: list[Block] = []
    # The furthest place such that all nodes from here on depend on all before it.
    reach, last = count, count
    for node in reversed(range(count)):
        known = growth.ancestors[node]
        reach = min(reach, (~known & (known + 1)).bit_length() - 1)
        if reach >= node:
            found.append(Block(node, last))
            last = node
    return found[::-1]


def starts(growth: Growth, found: Sequence[Block]) -> dict[Block, State]:
    """Return the state of all before each of the blocks `found`, which are in order."""
    state, before = growth.empty, {}
    for block in found:
        for node in members(block.before & ~state.mask):
            state = growth.grown(state, node)
        before[block] = state
    return before


def fits(block: Block, region: Region) -> bool:
    """Say whether a device set of `region` can have its border in `block`."""
    return not (block.before & region.server) and not (region.device & ~block.through)


def ideals(growth: Growth, block: Block, region: Region, start: State) -> Iterator[State]:
    """Return the device sets of `region` with all before `block` and none behind it.

    `start` is the state of all before it. The set with all of the block is left to the next block, if there
    is one.

    Every set is reached once, by adding its nodes in the graph's order: a set's last node is never needed by
    its others, so what is left without it is a set as well.
    """
    bound = block.through & ~region.server
    ready = sum(
        1 << node
        for node in range(block.first, block.last)
        if bound >> node & 1 and not growth.needs[node] & ~start.mask
    )
    skipped = block.through if block.through != growth.full else -1
    pending = [(start, ready)]
    while pending:
        state, ready = pending.pop()
        missing = region.device & ~state.mask
        if not missing and state.mask != skipped:
            yield state
        for node in members(ready):
            # Nodes join in order: behind a missing one that has to be there, nothing more can be had.
            if missing & ((1 << node) - 1):
                break
            grown = growth.grown(state, node)
            later = ready & (-2 << node)
            for follower in members(growth.next[node] & bound):
                if not growth.needs[follower] & ~grown.mask:
                    later |= 1 << follower
            pending.append((grown, later))
