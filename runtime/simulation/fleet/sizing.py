"""How many servers a fleet needs for a share of answers in time.

What one server does is nothing to another, so that a few servers with their share of the devices tell as much
as all of them: the search runs on a sample and costs the same for a thousand devices and for a million.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation.fleet.run import run_fleet
from isthmus.runtime.simulation.fleet.world import FleetWorld
from isthmus.runtime.simulation.sweep import Interval95, interval95

# Servers of a trial, and trials (seeds) per candidate.
_SAMPLE_SERVERS, _TRIALS = 4, 3
_EXACT_TO = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A number of devices per server, and what it gave."""

    devices_per_server: int
    hit_share: Interval95
    utilisation: float
    mean_batch: float
    latency_p50_s: float | None
    latency_p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The answer.

    Attributes:
        target: Wanted share of answers in time.
        servers: The fewest that reach it, by the lower end of the 95 % interval; None if none do.
        best: The share with servers in abundance: what the links alone allow.
        chosen: The trial of that number; None if there is none.
        trials: All of them, by devices per server.
    """

    target: float
    servers: int | None
    best: Interval95
    chosen: Trial | None
    trials: tuple[Trial, ...]


def size_fleet(
    world: FleetWorld, target: float, *, jobs: int = 1, note: Callable[[Trial], None] | None = None
) -> Sizing:
    """Return the fewest servers for which at least `target` of the wanted answers come in time.

    Args:
        world: The fleet; its own number of servers and its autoscaling are not used.
        target: Share in (0, 1).
        jobs: Processes.
        note: Told of every trial.

    Raises:
        InputError: If `target` is out of range.
    """
    if not 0 < target < 1:
        raise InputError(f"a target of {target:g}; give a share between 0 and 1, e.g. 0.99")
    known: dict[int, Trial] = {}

    def trial(per_server: int) -> Trial:
        if per_server not in known:
            known[per_server] = _try(world, per_server, jobs)
            if note is not None:
                note(known[per_server])
        return known[per_server]

    def enough(per_server: int) -> bool:
        share = trial(per_server).hit_share
        return share.mean - (share.half_width or 0.0) >= target

    # What fits by throughput alone is the upper end.
    sent_per_s = (
        world.fps
        * sum(one.share * one.sent_share for one in world.links)
        / sum(one.share for one in world.links)
    )
    most = min(world.devices, max(1, math.ceil(1.25 * world.service.frames_per_s / sent_per_s)))
    least = max(1, min(most, round(0.05 * most)))
    best = trial(least).hit_share
    if not enough(least):
        least = 1
        best = trial(1).hit_share
        if not enough(1):
            return _answer(world, target, None, best, known)
    if enough(most):
        return _answer(world, target, most, best, known)
    while most - least > max(1, _EXACT_TO * least):
        middle = (least + most) // 2
        least, most = (middle, most) if enough(middle) else (least, middle)
    return _answer(world, target, least, best, known)


def _try(world: FleetWorld, per_server: int, jobs: int) -> Trial:
    servers = max(1, min(_SAMPLE_SERVERS, world.devices // per_server))
    sample = replace(world, devices=per_server * servers, servers=servers, autoscale=None)
    runs = [
        run_fleet(replace(sample, seed=world.seed + 1000 * number), jobs=jobs) for number in range(_TRIALS)
    ]
    return Trial(
        devices_per_server=per_server,
        # Each server of each trial is one independent observation.
        hit_share=interval95([share for run in runs for share in run.hit_shares]),
        utilisation=sum(run.utilisation for run in runs) / len(runs),
        mean_batch=sum(run.mean_batch for run in runs) / len(runs),
        latency_p50_s=runs[0].latency_s(0.5),
        latency_p99_s=runs[0].latency_s(0.99),
    )


def _answer(
    world: FleetWorld, target: float, per_server: int | None, best: Interval95, known: dict[int, Trial]
) -> Sizing:
    return Sizing(
        target=target,
        servers=None if per_server is None else math.ceil(world.devices / per_server),
        best=best,
        chosen=None if per_server is None else known[per_server],
        trials=tuple(known[count] for count in sorted(known)),
    )
