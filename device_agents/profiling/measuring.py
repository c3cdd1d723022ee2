"""Measure one way under one scenario: warm up, measure, judge.

Decides where a measurement begins and ends. Refuses to know who answers (`Target`), when frames are asked for
(`scenarios`) and when a figure counts (`steadiness`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from isthmus.device_agents.profiling.conditions import Watch
from isthmus.device_agents.profiling.figures import Energy, WayFigures, make_figures, sum_over_latency
from isthmus.device_agents.profiling.sample import Sample, Target
from isthmus.device_agents.profiling.scenarios import Load, drive
from isthmus.device_agents.profiling.steadiness import FEWEST_QUERIES, Evidence, WarmUp, doubts
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.energy import EnergySampler

# Server's rate, where none is given: this share of what one frame after the other would be.
_MODERATE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How long a measurement takes.

    Attributes:
        warm_up_s: Most seconds of warming up.
        least_s: Fewest seconds of measuring; it goes on until there are enough queries to be believed.
        most_s: Most seconds of measuring, if frames take long.
    """

    warm_up_s: float = 5.0
    least_s: float = 3.0
    most_s: float = 15.0


class Gathering:
    """Takes queries: first those of the warm-up, then those that count. See `Taker`.

    Args:
        extent: How long.
        begin: Called once, when the measurement begins.
        clock: Monotonic seconds.

    Attributes:
        queries: Those that count.
        all_samples: Every frame, warm-up included.
        is_warm: The warm-up rule was met.
        began_s: When the measurement began; None: not yet.
        ended_s: When the last query that counts was answered; None: none was yet.
        warm_up_s: Seconds from the first query to the measurement.
        turned_away: Arrivals that were not asked.
    """

    def __init__(
        self,
        extent: Extent,
        *,
        begin: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queries: list[list[Sample]] = []
        self.all_samples: list[Sample] = []
        self.began_s: float | None = None
        self.ended_s: float | None = None
        self.warm_up_s = 0.0
        self.turned_away = 0
        self._extent = extent
        self._begin = begin
        self._clock = clock
        self._warm_up = WarmUp()
        self._first_s: float | None = None
        self._first_end_s = 0.0

    @property
    def is_warm(self) -> bool:
        """The warm-up rule was met."""
        return self._warm_up.is_warm

    @property
    def enough(self) -> bool:
        """See `Taker`."""
        if self.began_s is None:
            return False
        measured_s = self._clock() - self.began_s
        if measured_s >= self._extent.most_s:
            return bool(self.queries)
        return measured_s >= self._extent.least_s and len(self.queries) >= FEWEST_QUERIES

    def take(self, query: list[Sample]) -> None:
        """See `Taker`."""
        now_s = self._clock()
        self.all_samples += query
        if self._first_s is None:
            self._first_s = now_s
        if self.began_s is None:
            warm = self._warm_up.add(max(sample.latency_s for sample in query), now_s)
            if warm or now_s - self._first_s >= self._extent.warm_up_s:
                self._begin()
                self.began_s = self._clock()
                self.warm_up_s = self.began_s - self._first_s
        # What was asked before belongs to the warm-up, whenever it is answered.
        elif min(sample.due_s for sample in query) >= self.began_s:
            if not self.queries:
                self._first_end_s = now_s
            self.queries.append(query)
            self.ended_s = now_s

    @property
    def throughput_per_s(self) -> float:
        """Frames per second, from the first answer that counts to the last.

        Those that were under way when the measurement began are in neither number.
        """
        assert self.began_s is not None
        assert self.ended_s is not None
        if len(self.queries) == 1:
            return len(self.queries[0]) / (self.ended_s - self.began_s)
        later = sum(map(len, self.queries[1:]))
        return later / max(self.ended_s - self._first_end_s, 1e-9)

    def turn_away(self) -> None:
        """See `Taker`."""
        self.turned_away += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A way under a scenario: its figures, and the frames behind them, warm-up included."""

    figures: WayFigures
    samples: list[Sample]


async def measure(
    way: Way,
    load: Load,
    target: Target,
    *,
    extent: Extent,
    watch: Watch,
    meter: EnergySampler | None = None,
    idle_w: float | None = None,
) -> Measured:
    """Measure `target`, which answers in `way`, under `load`.

    Args:
        way: What is measured, for the figures.
        load: When frames are asked for.
        target: Who answers.
        extent: How long.
        watch: Looks at the device; started.
        meter: Reads the device's joules; started. None: there is none.
        idle_w: Watts at rest.

    Raises:
        IsthmusError: What the target raises.
    """
    before_j: float | None = None
    looked_s = 0.0

    def begin() -> None:
        nonlocal before_j, looked_s
        looked_s = watch.look()
        before_j = None if meter is None else meter.energy_j

    gathered = Gathering(extent, begin=begin)
    await drive(load, target, gathered)
    assert gathered.began_s is not None
    assert gathered.ended_s is not None
    conditions = watch.since(looked_s)
    elapsed_s = gathered.ended_s - gathered.began_s
    samples = [sample for query in gathered.queries for sample in query]
    evidence = Evidence(
        latencies_s=[max(sample.latency_s for sample in query) for query in gathered.queries],
        warm=gathered.is_warm,
        conditions=conditions,
        astray=sum(not sample.as_asked for sample in samples),
        turned_away=gathered.turned_away,
        sum_over_latency=sum_over_latency(samples),
    )
    figures = make_figures(
        way,
        load,
        gathered.queries,
        warm_up_s=gathered.warm_up_s,
        elapsed_s=elapsed_s,
        throughput_per_s=gathered.throughput_per_s,
        energy=_energy(meter, before_j, elapsed_s, gathered.throughput_per_s, idle_w),
        conditions=conditions,
        doubts=doubts(evidence),
    )
    return Measured(figures=figures, samples=gathered.all_samples)


async def with_rate(way: Way, load: Load, target: Target, watch: Watch) -> Load:
    """Return `load`; one of Server without a rate gets half of what SingleStream answers in a short trial."""
    if load.scenario != "Server" or load.rate_per_s > 0:
        return load
    brief = Extent(warm_up_s=1.0, least_s=0.0, most_s=1.0)
    trial = await measure(way, Load(scenario="SingleStream"), target, extent=brief, watch=watch)
    return replace(load, rate_per_s=_MODERATE / trial.figures.latency.mean_s)


def _energy(
    meter: EnergySampler | None,
    before_j: float | None,
    elapsed_s: float,
    frames_per_s: float,
    idle_w: float | None,
) -> Energy | None:
    after_j = None if meter is None else meter.energy_j
    if meter is None or before_j is None or after_j is None:
        return None
    total_j = after_j - before_j
    power_w = total_j / elapsed_s
    return Energy(
        source=meter.source,
        total_j=total_j,
        per_frame_j=power_w / frames_per_s,
        idle_w=idle_w,
        above_idle_per_frame_j=None if idle_w is None else (power_w - idle_w) / frames_per_s,
    )
