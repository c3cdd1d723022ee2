"""Learned bottlenecks as candidates: the cut each stands at, and whether it may be used there."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.partitioner.search.growth import members
from isthmus.partitioner.search.problem import Bottleneck
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
        mask = _head(scorer, bottleneck)
        head = members(mask)
        tail = members(scorer.full & ~mask)
        if bottleneck.keeps_head and any(pins[node] == "server" for node in head):
            continue
        if admitted(scorer, mask) and all(pins[node] != "device" for node in tail):
            yield scorer.with_bottleneck(bottleneck, scorer.state_of(mask))


def _head(scorer: Scorer, bottleneck: Bottleneck) -> int:
    mask = 0
    for tensor in scorer.graph.tensors:
        if tensor.name in bottleneck.cut and tensor.producer is not None:
            mask |= scorer.ancestors[tensor.producer] | 1 << tensor.producer
    crossing = {scorer.graph.tensors[index].name for index in scorer.frontier(mask)}
    for what, names in (
        ("also cross there", crossing - bottleneck.cut),
        ("does not cross", bottleneck.cut - crossing),
    ):
        if names:
            listed = ", ".join(repr(name) for name in sorted(names)[:3])
            raise PlanError(f"bottleneck {bottleneck.name!r}: {listed} {what}; give the full cut")
    return mask
