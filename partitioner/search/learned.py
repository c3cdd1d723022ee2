"""Learned bottlenecks as candidates: the cut each stands at, and whether it may be used there."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.partitioner.search.growth import members
from isthmus.partitioner.search.regions import admitted
from isthmus.partitioner.search.scoring import Candidate, Scorer
from isthmus.runtime.errors import PlanError


def bottleneck_candidates(scorer: Scorer) -> Iterator[Candidate]:
    """Return the problem's bottlenecks that pins and allowed cuts admit, in their order.

    The device's side of a cut is what the cut depends on. What an encoder replaces runs nowhere, so that pins
    of those nodes bind only a bottleneck that keeps them.

    Raises:
        PlanError: If something passes beside a bottleneck's cut.
    """
    pins = [node.pin for node in scorer.graph.nodes]
    for bottleneck in scorer.problem.bottlenecks:
        mask = device_side(scorer, bottleneck.cut, f"bottleneck {bottleneck.name!r}")
        head = members(mask)
        tail = members(scorer.full & ~mask)
        if bottleneck.keeps_head and any(pins[node] == "server" for node in head):
            continue
        if admitted(scorer, mask) and all(pins[node] != "device" for node in tail):
            yield scorer.with_bottleneck(bottleneck, scorer.state_of(mask))


def device_side(scorer: Scorer, cut: frozenset[str], what: str) -> int:
    """Return the least device set at whose border `cut` is; of no tensors it is everything.

    Raises:
        PlanError: If something else crosses there as well, or something of the cut does not; the line begins
            with `what`.
    """
    if not cut:
        return scorer.full
    mask = 0
    for tensor in scorer.graph.tensors:
        if tensor.name in cut and tensor.producer is not None:
            mask |= scorer.ancestors[tensor.producer] | 1 << tensor.producer
    crossing = {scorer.graph.tensors[index].name for index in scorer.frontier(mask)}
    for verdict, names in (("crosses there too", crossing - cut), ("does not cross", cut - crossing)):
        if names:
            raise PlanError(f"{what}: {min(names)!r} {verdict}; give the full cut")
    return mask
