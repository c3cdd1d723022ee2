"""Rank candidates: the best, the best place for a bottleneck, what is worth measuring, what nothing beats.

Pure. A measured candidate is compared by its measurement, and never with an unmeasured one of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.partitioner.facts import BottleneckRules
from isthmus.partitioner.goal import Goal
from isthmus.partitioner.plan import Candidate, Kind

_INTERIOR: tuple[Kind, ...] = ("bottleneck", "split")
_SAME_SHARE = 0.02


def best(candidates: Sequence[Candidate], kinds: Sequence[Kind], goal: Goal) -> int | None:
    """Return the index of the best candidate of `kinds` that may be chosen; of equals the faster.

    Where some of these meet the deadline, only those are compared. Where some were measured, only those are:
    a prediction that nobody checked does not win against a measurement.
    """
    pool = _pool(candidates, kinds, goal)
    return min(pool, key=lambda index: goal.key(candidates[index]), default=None)


def best_bottleneck(candidates: Sequence[Candidate], rules: BottleneckRules, goal: Goal) -> int | None:
    """Return the index of the assumed bottleneck to train, or None if none may be chosen.

    The best decides what is near enough (`rules.tolerance`); of those the smallest tensor wins, then the
    deepest.
    """
    pool = _pool(candidates, ("bottleneck",), goal, trained=False)
    if not pool:
        return None
    limit = min(goal.value(candidates[index]) for index in pool) * (1 + rules.tolerance)
    near = [index for index in pool if goal.value(candidates[index]) <= limit]
    return min(near, key=lambda index: (_elements(candidates[index]), -index))


def finalists(candidates: Sequence[Candidate], rules: BottleneckRules, goal: Goal, count: int) -> list[int]:
    """Return the indices of at most `count` candidates whose cuts are worth measuring, best first.

    Assumed bottlenecks and plain splits take turns. Cuts whose heads are within 2 % of the network's time of
    each other are one cut to a measurement (before and after an activation), so that only the better one of
    the kind is taken.
    """
    queues = []
    first = best_bottleneck(candidates, rules, goal)
    for kind in _INTERIOR:
        pool = _pool(candidates, (kind,), goal, trained=False)
        order = sorted(pool, key=lambda index: (index != first, goal.key(candidates[index])))
        queues.append(_distinct(candidates, order))
    chosen: dict[str | None, int] = {}
    for turn in range(max(len(queue) for queue in queues)):
        for queue in queues:
            if turn < len(queue) and len(chosen) < count:
                chosen.setdefault(candidates[queue[turn]].cut, queue[turn])
    return list(chosen.values())


def _distinct(candidates: Sequence[Candidate], order: Sequence[int]) -> list[int]:
    kept: list[list[int]] = []
    for index in order:
        item = candidates[index]
        twins = next((t for t in kept if _twins(candidates[t[0]], item)), None)
        if twins is None:
            kept.append([index])
        else:
            other = candidates[twins[0]]
            if item.payload_bytes <= other.payload_bytes and _elements(item) <= _elements(other):
                twins.append(index)
    # The deepest twin: after an activation rather than before it, where a cut tears a fused kernel apart.
    return [max(twins, key=lambda index: candidates[index].head_share) for twins in kept]


def _twins(one: Candidate, other: Candidate) -> bool:
    alike = len(one.frontier) == len(other.frontier)
    return alike and abs(one.head_share - other.head_share) < _SAME_SHARE


def _elements(item: Candidate) -> int:
    return sum(tensor.elements for tensor in item.frontier)


def _pool(
    candidates: Sequence[Candidate], kinds: Sequence[Kind], goal: Goal, *, trained: bool = True
) -> list[int]:
    """Return the indices of what may be chosen: those in time and those measured, where there are any.

    Trained bottlenecks are among them only if `trained`.
    """
    found = [
        index
        for index, item in enumerate(candidates)
        if item.kind in kinds and item.refused is None and goal.accurate(item)
        if trained or item.learned is None
    ]
    found = [index for index in found if candidates[index].measured is not None] or found
    return [index for index in found if goal.in_time(candidates[index])] or found


def pareto(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Return the indices of the candidates that none beats: latency, energy, bytes, period and accuracy.

    All are compared as they are here; before anything is measured that is the one basis that every candidate
    has. Energies count where all are known. Accuracies that nobody measured are compared with their like, as
    a plain split's with another's.
    """
    open_ones = [
        index
        for index, item in enumerate(candidates)
        if item.refused is None and item.times.total_s is not None
    ]
    energies = all(candidates[index].figures.energy_j is not None for index in open_ones)
    points = {index: _point(candidates[index], energies=energies) for index in open_ones}
    front: list[int] = []
    # In lexical order whatever dominates a point comes before it, equal points keep their first.
    for index in sorted(points, key=lambda index: (points[index], index)):
        point, kind = points[index], _kind(candidates[index])
        rivals = (points[other] for other in front if _kind(candidates[other]) == kind)
        if not any(all(a <= b for a, b in zip(rival, point, strict=True)) for rival in rivals):
            front.append(index)
    return tuple(sorted(front))


def _point(item: Candidate, *, energies: bool) -> tuple[float, ...]:
    return (
        item.times.total_s or 0.0,
        float(item.payload_bytes),
        (item.figures.energy_j or 0.0) if energies else 0.0,
        item.figures.period_s or 0.0,
        -(item.accuracy or 0.0),
    )


def _kind(item: Candidate) -> str:
    return "known" if item.accuracy is not None else "assumed" if item.assumed else "network's"
