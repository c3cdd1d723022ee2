"""How good a split could be at best, where there are too many to try them all.

A limit (memory, a deadline) is priced, and the longest of several stages is replaced by a mean of them; what
is left is linear and exact by minimum cut, and no price or mean makes it worse than the best split
(Lagrangian duality). Prices follow the subgradient with Polyak's step. Every cut on the way is a split to
weigh, so that the search improves from both sides; where they do not meet there is a gap, and the answer
says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from isthmus.partitioner.search.growth import State
from isthmus.partitioner.search.linear import LinearSearch, Weights
from isthmus.partitioner.search.problem import Objective
from isthmus.partitioner.search.scoring import ROUNDING, Scorer

_ROUNDS = 40
# Prices are multiples of this: exact numbers stay short.
_GRAIN = 1 << 20


class Limit(NamedTuple):
    """What must not exceed `most`."""

    weights: Weights
    most: float


def latency_weights(scorer: Scorer, seconds_per_byte: float) -> Weights:
    """Return the latency as weights."""
    return Weights(device_s=1, server_s=1, nbytes=seconds_per_byte, offload=scorer.problem.link.rtt_s)


def pieces(scorer: Scorer, objective: Objective) -> list[Weights]:
    """Return the linear costs whose largest is what `objective` minimises; `on-time` has none."""
    power, per_byte = scorer.problem.power, scorer.seconds_per_byte
    latency = latency_weights(scorer, per_byte)
    energy = Weights(
        device_j=1,
        nbytes=power.joules_per_byte + (power.transmit_w + power.idle_w) * per_byte,
        server_s=power.idle_w,
        offload=power.idle_w * scorer.problem.link.rtt_s,
    )
    if objective.kind == "latency":
        return [latency]
    if objective.kind == "energy":
        return [energy]
    if objective.kind == "weighted":
        return [Weights().plus(latency, objective.alpha).plus(energy, objective.beta)]
    return [Weights(device_s=1), Weights(nbytes=per_byte), Weights(server_s=1)]


def limits(scorer: Scorer, *, deadline: bool) -> list[Limit] | None:
    """Return the constraints as far as they are linear; None if nothing that needs the server keeps them.

    Of the memory, only the weights are linear: a relaxation.
    """
    asked = scorer.problem.constraints
    found = []
    if asked.device_memory_bytes is not None:
        found.append(Limit(Weights(weight_bytes=1), asked.device_memory_bytes))
    if deadline and asked.deadline_s is not None:
        rate = slowest_needed(scorer)
        if rate == 0:
            return None
        found.append(Limit(latency_weights(scorer, 1 / rate), asked.deadline_s))
    return found


def slowest_needed(scorer: Scorer) -> float:
    """Return the rate at which the deadline has to be met for it to be met as likely as it has to be."""
    known, needed = 0.0, scorer.problem.constraints.deadline_probability - ROUNDING
    fastest_first = sorted(scorer.rates, key=lambda item: -item[1])
    for chance, rate in fastest_first:
        known += chance
        if known >= needed:
            return rate
    return fastest_first[-1][1]


def lower_bound(
    search: LinearSearch,
    costs: Sequence[Weights],
    kept: Sequence[Limit],
    weigh: Callable[[State], None],
    best: Callable[[], float],
    *,
    local: bool,
) -> float:
    """Return what no split of `search` is better than; infinite if none keeps the limits.

    Args:
        search: Where the splits are.
        costs: The largest of these is to be least.
        kept: What has to hold.
        weigh: Called with every device set that comes up.
        best: Returns the best value known; reaching it is enough.
        local: Whether everything on the device is a split that may be used; else the bound is for the others.
    """
    for limit in kept:
        least = search.least(limit.weights, local=local)
        if least.state is not None:
            weigh(least.state)
        if least.value > limit.most:
            return math.inf
    shares = [_GRAIN // len(costs)] * len(costs)
    shares[0] += _GRAIN - sum(shares)
    prices = [0] * len(kept)
    bound, unit, pace, stale = -math.inf, 0.0, 1.0, 0
    for _ in range(_ROUNDS):
        weights = Weights()
        for share, cost in zip(shares, costs, strict=True):
            weights = weights.plus(cost, share)
        for price, limit in zip(prices, kept, strict=True):
            if price:
                weights = weights.plus(limit.weights, price * unit / (limit.most or 1))
        least = search.least(weights, local=local)
        if least.state is None:
            return math.inf
        weigh(least.state)
        paid = sum(price * unit * (1 if limit.most else 0) for price, limit in zip(prices, kept, strict=True))
        here = (least.value - paid) / _GRAIN
        stale = 0 if here > bound else stale + 1
        bound = max(bound, here)
        if bound >= best() or (len(costs) == 1 and not kept):
            break
        if stale >= 4:
            pace, stale = pace / 2, 0
        unit = unit or _unit(best(), here)
        slopes = [search.value(cost, least.state) for cost in costs]
        excess = [
            (search.value(limit.weights, least.state) - limit.most) / (limit.most or 1) * unit
            for limit in kept
        ]
        if not _follow(shares, prices, slopes, excess, (best(), here, unit), pace):
            break
    return bound


def _unit(best: float, here: float) -> float:
    """Return the size of a price: what the objective is worth, roughly."""
    if best < math.inf and best > 0:
        return best
    return here if here > 0 else 1


def _follow(
    shares: list[int],
    prices: list[int],
    slopes: Sequence[float],
    excess: Sequence[float],
    values: tuple[float, float, float],
    pace: float,
) -> bool:
    """Move shares and prices along the subgradient; say whether they moved."""
    best, here, unit = values
    goal = best if best < math.inf else here + unit
    mean = sum(slopes) / len(slopes)
    along = [float(slope - mean) for slope in slopes]
    length = sum(value * value for value in along) + sum(
        float(value) ** 2 for value, price in zip(excess, prices, strict=True) if value > 0 or price
    )
    if not length > 0:
        return False
    step = pace * float(goal - here) / length * _GRAIN
    before = list(shares), list(prices)
    moved = _on_simplex([share + step * value for share, value in zip(shares, along, strict=True)])
    shares[:] = moved
    prices[:] = [
        max(0, round(price + step * float(value))) for price, value in zip(prices, excess, strict=True)
    ]
    return before != (shares, prices)


def _on_simplex(values: Sequence[float]) -> list[int]:
    """Return the nearest shares of `_GRAIN`, each at least 0 (Held, Wolfe and Crowder 1974)."""
    shift, total = 0.0, 0.0
    for count, value in enumerate(sorted(values, reverse=True), start=1):
        total += value
        if value > (total - _GRAIN) / count:
            shift = (total - _GRAIN) / count
    shares = [max(0, round(value - shift)) for value in values]
    shares[shares.index(max(shares))] += _GRAIN - sum(shares)
    return shares
