"""Which device sets may be considered at all: pins, tensors that may not cross, allowed cuts.

A region says what is certainly on the device, what certainly on the server, and what may not cross. What
follows from these is added until nothing more follows; regions that contradict themselves vanish.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from isthmus.partitioner.search.growth import members
from isthmus.partitioner.search.scoring import Scorer

# So many ways to say which reader of each tensor of an allowed cut is on the server are looked at one by one.
_MOST_CHOICES = 64


class Region(NamedTuple):
    """Device sets that contain `device`, nothing of `server`, and let no tensor of `barred` cross."""

    device: int
    server: int
    barred: frozenset[int]


def regions(scorer: Scorer) -> list[Region]:
    """Return regions that hold every set that pins, sizes, `no_raw_input` and allowed cuts admit.

    Without allowed cuts it is one region of exactly those sets. With them it is one for each end and, per
    allowed cut, one for every choice of a reader on the server; only their sets' frontiers remain to be
    compared (`admitted`).
    """
    graph, limits = scorer.graph, scorer.problem.constraints
    device = sum(1 << index for index, node in enumerate(graph.nodes) if node.pin == "device")
    server = sum(1 << index for index, node in enumerate(graph.nodes) if node.pin == "server")
    barred = frozenset(
        index
        for index, tensor in enumerate(graph.tensors)
        if tensor.consumers and (not scorer.ways(index) if tensor.producer is None else tensor.nbytes is None)
    )
    if limits.allowed_cuts is None:
        return _closed(scorer, [Region(device, server, barred)])
    found = [
        Region(scorer.full, server, barred),
        Region(device, scorer.full, barred),
    ]
    index_of = {tensor.name: index for index, tensor in enumerate(graph.tensors)}
    for cut in sorted(limits.allowed_cuts, key=sorted):
        crossing = [index_of[name] for name in sorted(cut)]
        makers = (graph.tensors[index].producer for index in crossing)
        before = sum(1 << node for node in set(makers) if node is not None)
        others = frozenset(index for index in range(len(graph.tensors)) if index not in crossing)
        for behind in _choices([graph.tensors[index].consumers for index in crossing]):
            found.append(Region(device | before, server | behind, barred | others))
    return _closed(scorer, list(dict.fromkeys(found)))


def admitted(scorer: Scorer, mask: int) -> bool:
    """Say whether the allowed cuts admit the device set `mask`."""
    allowed = scorer.problem.constraints.allowed_cuts
    if allowed is None or mask in (0, scorer.full):
        return True
    return frozenset(scorer.graph.tensors[index].name for index in scorer.frontier(mask)) in allowed


def local_allowed(scorer: Scorer) -> bool:
    """Say whether the pins let everything run on the device."""
    return all(node.pin != "server" for node in scorer.graph.nodes)


def close(scorer: Scorer, region: Region) -> Region | None:
    """Return `region` with all that follows from it, or None if no device set is in it."""
    device, server, barred = region
    while True:
        before = device, server
        for node in members(device):
            device |= scorer.ancestors[node]
        for node in members(server):
            server |= scorer.descendants[node]
        for index in barred:
            maker = scorer.graph.tensors[index].producer
            if maker is None or device >> maker & 1:
                device |= scorer.readers[index]
            elif scorer.readers[index] & server:
                server |= 1 << maker
        if device & server:
            return None
        if (device, server) == before:
            return Region(device, server, barred)


def _closed(scorer: Scorer, found: Iterable[Region]) -> list[Region]:
    closed = (close(scorer, region) for region in found)
    return list(dict.fromkeys(region for region in closed if region is not None))


def _choices(readers: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the sets of nodes that take one reader of each tensor; nothing if these are too many."""
    if math.prod(len(nodes) for nodes in readers) > _MOST_CHOICES:
        return [0]
    return [sum(1 << node for node in set(choice)) for choice in itertools.product(*readers)]
