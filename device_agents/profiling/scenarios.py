"""When frames are asked for: the four scenarios of MLPerf Inference, by their names.

    SingleStream  one frame after the other; its figure is the 90th percentile of latency
    MultiStream   N frames at once, the next N when the last of them is answered; 99th percentile of the N
    Server        frames arrive at random (a Poisson process of a given rate and seed); 99th percentile
    Offline       as many as are taken; frames per second

Source: Reddi et al., "MLPerf Inference Benchmark", ISCA 2020, section III and table I. Their runs last at
least a minute and 270,336 queries (Server); ours last as long as they are told, and a run for publication is
theirs to make. Offline, which hands over everything at once there, keeps a fixed number unanswered here: a
device has neither room nor use for more.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from isthmus.device_agents.profiling.sample import Sample, Target

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)

# How many are unanswered at most when as many as possible are to be answered.
OFFLINE_DEPTH = 16
# Arrivals that find so many unanswered are turned away: a queue that only grows has no latency to speak of.
SERVER_DEPTH = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked for.

    Attributes:
        scenario: By which rule.
        streams: Frames of one query of MultiStream.
        rate_per_s: Mean arrivals per second of Server; 0: not chosen yet.
        seed: Of Server's arrivals.
    """

    scenario: Scenario
    streams: int = 8
    rate_per_s: float = 0.0
    seed: int = 1


class Taker(Protocol):
    """Takes the ends of queries, and says when it has enough."""

    @property
    def enough(self) -> bool:
        """No further query is needed."""
        ...

    def take(self, query: list[Sample]) -> None:
        """Take the frames of a query that has just been answered."""
        ...

    def turn_away(self) -> None:
        """Note an arrival that found too many before it and was not asked."""
        ...


async def drive(load: Load, target: Target, taker: Taker) -> None:
    """Ask `target` for frames as `load` says until `taker` has enough; returns when all are answered."""
    if load.scenario == "Server":
        await _arrivals(load, target, taker)
    elif load.scenario == "Offline":
        await _as_many_as_taken(target, taker)
    else:
        await _rounds(load.streams if load.scenario == "MultiStream" else 1, target, taker)


async def _rounds(streams: int, target: Target, taker: Taker) -> None:
    while not taker.enough:
        now_s = time.monotonic()
        taker.take(list(await asyncio.gather(*(target.ask(now_s) for _ in range(streams)))))


async def _as_many_as_taken(target: Target, taker: Taker) -> None:
    pending: set[asyncio.Future[Sample]] = set()
    while pending or not taker.enough:
        while len(pending) < OFFLINE_DEPTH and not taker.enough:
            pending.add(target.ask(time.monotonic()))
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            taker.take([future.result()])


async def _arrivals(load: Load, target: Target, taker: Taker) -> None:
    rng = random.Random(load.seed)
    pending: set[asyncio.Future[Sample]] = set()
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(future: asyncio.Future[Sample]) -> None:
        pending.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            taker.take([future.result()])
        elif error is not None and not failure.done():
            failure.set_exception(error)

    due_s = time.monotonic()
    while not taker.enough and not failure.done():
        due_s += rng.expovariate(load.rate_per_s)
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        if len(pending) >= SERVER_DEPTH:
            taker.turn_away()
            continue
        future = target.ask(due_s)
        pending.add(future)
        future.add_done_callback(answered)
    await asyncio.gather(*pending, return_exceptions=True)
    if failure.done():
        failure.result()
    failure.cancel()
