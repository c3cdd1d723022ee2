"""Rank candidates: the fastest, the best place for a bottleneck, what is worth measuring, what nothing beats.

Pure. A measured candidate is compared by its measurement, and never with an unmeasured one of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.partitioner.facts import BottleneckRules
from isthmus.partitioner.plan import Candidate, Kind

_INTERIOR: tuple[Kind, ...] = ("bottleneck", "split")
_SAME_SHARE = 0.02


def total(candidate: Candidate) -> float:
    """Return the candidate's seconds from capture to answer; infinite where it never ends."""
    seconds = candidate.times.total_s
    return math.inf if seconds is None else seconds


def fastest(candidates: Sequence[Candidate], kinds: Sequence[Kind]) -> int | None:
    """Return the index of the fastest candidate of `kinds` that may be chosen; of equals the first.

    Where some candidates of these kinds were measured, only those are compared: a prediction that nobody
    checked does not win against a measurement.
    """
    pool = _pool(candidates, kinds)
    return min(pool, key=lambda index: total(candidates[index]), default=None)


def best_bottleneck(candidates: Sequence[Candidate], rules: BottleneckRules) -> int | None:
    """Return the index of the bottleneck to train, or None if none may be chosen.

    The fastest decides what is near enough (`rules.tolerance`); of those the smallest tensor wins, then the
    deepest.
    """
    quickest = fastest(candidates, ("bottleneck",))
    if quickest is None:
        return None
    limit = total(candidates[quickest]) * (1 + rules.tolerance)
    near = [index for index in _pool(candidates, ("bottleneck",)) if total(candidates[index]) <= limit]
    return min(near, key=lambda index: (_elements(candidates[index]), -index))


def finalists(candidates: Sequence[Candidate], rules: BottleneckRules, count: int) -> list[str]:
    """Return the tensors of at most `count` cuts that are worth measuring, best first.

    Bottlenecks and plain splits take turns. Cuts whose heads are within 2 % of the network's time of each
    other are one cut to a measurement (before and after an activation), so that only the better one of the
    kind is taken.
    """
    queues = []
    best = best_bottleneck(candidates, rules)
    for kind in _INTERIOR:
        pool = _pool(candidates, (kind,))
        order = sorted(pool, key=lambda index: (index != best, total(candidates[index])))
        queues.append(_distinct([candidates[index] for index in order]))
    chosen: dict[str, None] = {}
    for turn in range(max(len(queue) for queue in queues)):
        for queue in queues:
            if turn < len(queue) and len(chosen) < count:
                chosen[queue[turn]] = None
    return list(chosen)


def _distinct(ordered: Sequence[Candidate]) -> list[str]:
    kept: list[list[Candidate]] = []
    for item in ordered:
        twins = next((t for t in kept if abs(item.head_share - t[0].head_share) < _SAME_SHARE), None)
        if twins is None:
            kept.append([item])
        elif item.payload_bytes <= twins[0].payload_bytes and _elements(item) <= _elements(twins[0]):
            twins.append(item)
    # The deepest twin: after an activation rather than before it, where a cut tears a fused kernel apart.
    return [max(twins, key=lambda item: item.head_share).frontier[0].name for twins in kept]


def _elements(item: Candidate) -> int:
    return sum(tensor.elements for tensor in item.frontier)


def _pool(candidates: Sequence[Candidate], kinds: Sequence[Kind]) -> list[int]:
    """Return the indices of what may be chosen: the measured ones where there are any, else all."""
    found = [index for index, item in enumerate(candidates) if item.kind in kinds and item.refused is None]
    return [index for index in found if candidates[index].measured is not None] or found


def pareto(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Return the indices of the candidates that none beats on latency, bytes and device time together.

    All are compared by their predictions, the one basis that every candidate has.
    """
    points = {
        index: (item.predicted.total_s, float(item.payload_bytes), item.predicted.device_s)
        for index, item in enumerate(candidates)
        if item.refused is None and item.predicted.total_s is not None
    }
    front: list[int] = []
    # In lexical order whatever dominates a point comes before it, equal points keep their first.
    for index in sorted(points, key=lambda index: (points[index], index)):
        point = points[index]
        if not any(all(a <= b for a, b in zip(points[other], point, strict=True)) for other in front):
            front.append(index)
    return tuple(sorted(front))
