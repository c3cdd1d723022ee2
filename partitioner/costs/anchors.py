"""Measure real halves at a few tensors, so that what a cut adds to its nodes is known.

Decides where: spread over the network's time, those that tell most first, because the budget may end early.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isthmus.partitioner.cutting.cut import extract_halves
from isthmus.partitioner.network.model import Network
from isthmus.partitioner.running.execution import Feed, time_side_by_side
from isthmus.partitioner.running.runner import Runner
from isthmus.runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A tensor at which the network can be cut alone, with the share of the node time before it."""

    tensor: str
    before: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpot:
    """What real halves at a spot took, beside the whole network in the same rounds.

    Attributes:
        spot: Where.
        whole_s: Seconds of the whole.
        head_share, tail_share: The halves' times divided by that.
    """

    spot: Spot
    whole_s: float
    head_share: float
    tail_share: float


def spread_out(spots: Sequence[Spot], count: int) -> list[Spot]:
    """Return at most `count` of `spots`, spread evenly over the network's time, those that tell most first.

    The last comes first, the first second, then the middle of the widest gap: wherever measuring has to stop,
    what was measured is spread.

    Args:
        spots: In the order of execution.
        count: How many.
    """
    chosen = list(dict.fromkeys([*spots[-1:], *spots[:1]]))[:count]
    rest = [spot for spot in spots if spot not in chosen]
    while rest and len(chosen) < count:
        farthest = max(rest, key=lambda spot: min(abs(spot.before - other.before) for other in chosen))
        chosen.append(farthest)
        rest.remove(farthest)
    return chosen


def measure_spots(
    network: Network,
    spots: Sequence[Spot],
    *,
    runner: Runner,
    feed: Feed,
    whole: Callable[[], object],
    budget_s: float,
) -> list[MeasuredSpot]:
    """Measure real halves at `spots`, one after the other until the budget is spent.

    One after the other, so that memory never holds more than twice the network; shares of the whole in the
    same rounds, so that what happens to the machine meanwhile does not matter.

    Args:
        network: The network.
        spots: Where, the most important first.
        runner: How to run.
        feed: The network's inputs.
        whole: Runs the whole network.
        budget_s: Seconds, about.

    Raises:
        InputError: If ONNX Runtime cannot run a half.
    """
    found: list[MeasuredSpot] = []
    started, started_cpu = time.perf_counter(), time.process_time()
    for spot in spots:
        # On a busy machine CPU time passes slowly; nobody waits for more than twice the budget.
        if min(time.process_time() - started_cpu, (time.perf_counter() - started) / 2) >= budget_s:
            break
        try:
            halves = extract_halves(network, [spot.tensor])
        except PlanError:
            continue  # a tensor that cannot cross, e.g. of strings
        head, made = runner.prepare(halves.head, network, feed)
        tail, _ = runner.prepare(halves.tail, network, {**feed, **made})
        calls = {"whole": whole, "head": head, "tail": tail}
        timings = time_side_by_side(calls, budget_s=budget_s / len(spots), clock=runner.clock)
        whole_s = timings["whole"].median_s
        found.append(
            MeasuredSpot(
                spot=spot,
                whole_s=whole_s,
                head_share=timings["head"].median_s / whole_s,
                tail_share=timings["tail"].median_s / whole_s,
            )
        )
    return found
