"""What the profiler reports, as it is written to JSON: one `WayFigures` for every way and scenario."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from isthmus.device_agents.profiling.conditions import Conditions
from isthmus.device_agents.profiling.sample import Sample
from isthmus.device_agents.profiling.scenarios import Load, Scenario
from isthmus.device_agents.profiling.steadiness import Doubt
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.events import STAGES

PROFILE_SCHEMA_VERSION = 1

# The parts that people compare, and the stages that each is made of; every other stage is the rest.
PARTS: dict[str, tuple[str, ...]] = {
    "head": ("head",),
    "codec": ("codec",),
    "link": ("network", "remote"),
    "queue": ("server queue",),
    "tail": ("tail", "answer"),
}
REST = "rest"


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds, over the frames that have them."""

    p25_s: float
    p50_s: float
    p75_s: float
    p90_s: float
    p99_s: float
    mean_s: float


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Joules of one measurement.

    A meter is read ten times a second, so both ends of the measurement are known to a tenth of a second.

    Attributes:
        source: The meter's; begins with "model:" if and only if the joules are modelled.
        total_j: Of the whole measurement, the device at rest included.
        per_frame_j: Mean watts of it over the frames per second.
        idle_w: Watts at rest, measured before; None: not measured.
        above_idle_per_frame_j: Per frame, less what the device would have drawn at rest; None without
            `idle_w`.
    """

    source: str
    total_j: float
    per_frame_j: float
    idle_w: float | None = None
    above_idle_per_frame_j: float | None = None


class WayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One way under one scenario.

    Attributes:
        way: What answered.
        scenario: When frames were asked for.
        queries, frames: How many were measured, warm-up excluded.
        rate_per_s: Mean arrivals per second that Server was told.
        warm_up_s: Seconds of warm-up that were left out.
        elapsed_s: Seconds of the measurement.
        throughput_per_s: Frames per second, from the first answer to the last.
        payload_bytes: Mean of a frame; None: nothing was encoded.
        parts: Seconds by part: those of `PARTS` that happened, and the rest.
        stages: Seconds by stage, by the names of `STAGES`.
        latency: Seconds of a frame, from when it was due to its end.
        query: Seconds of a query, till the last of its frames; the same as `latency` where it has one.
        sum_over_latency: Median over the frames of their stages' sum over their latency.
        energy: None without a meter that could be read throughout.
        conditions: What the device was like.
        doubts: Why the figures are not to be trusted; empty: they are.
    """

    way: Way
    scenario: Scenario
    queries: int
    frames: int
    rate_per_s: float | None
    warm_up_s: float
    elapsed_s: float
    throughput_per_s: float
    payload_bytes: float | None
    parts: dict[str, Quantiles]
    stages: dict[str, Quantiles]
    latency: Quantiles
    query: Quantiles
    sum_over_latency: float | None
    energy: Energy | None
    conditions: Conditions
    doubts: tuple[Doubt, ...]

    @property
    def trusted(self) -> bool:
        """Nothing speaks against the figures."""
        return not self.doubts


def quantiles(seconds: Sequence[float]) -> Quantiles:
    """Return the quantiles of at least one duration."""
    p25, p50, p75, p90, p99 = (float(value) for value in np.percentile(seconds, (25, 50, 75, 90, 99)))
    return Quantiles(p25_s=p25, p50_s=p50, p75_s=p75, p90_s=p90, p99_s=p99, mean_s=float(np.mean(seconds)))


def sum_over_latency(samples: Sequence[Sample]) -> float | None:
    """Return the median of the frames' stages over their latency; None without frames that took time."""
    shares = [sum(s.stages().values()) / s.latency_s for s in samples if s.as_asked and s.latency_s > 0]
    return float(np.median(shares)) if shares else None


def stage_quantiles(samples: Sequence[Sample]) -> dict[str, Quantiles]:
    """Return the seconds of every stage that happened, in the order of `STAGES`."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        for name, seconds in sample.stages().items():
            columns.setdefault(name, []).append(seconds)
    return {stage.name: quantiles(columns[stage.name]) for stage in STAGES if stage.name in columns}


def part_quantiles(samples: Sequence[Sample]) -> dict[str, Quantiles]:
    """Return the seconds of the parts of `PARTS` that happened, and of the rest of the latency."""
    columns: dict[str, list[float]] = {}
    for sample in samples:
        stages, rest_s = sample.stages(), sample.latency_s
        for part, names in PARTS.items():
            known = [stages[name] for name in names if name in stages]
            if known:
                columns.setdefault(part, []).append(sum(known))
                rest_s -= sum(known)
        columns.setdefault(REST, []).append(rest_s)
    return {part: quantiles(columns[part]) for part in (*PARTS, REST) if part in columns}


def make_figures(
    way: Way,
    load: Load,
    queries: Sequence[Sequence[Sample]],
    *,
    warm_up_s: float,
    elapsed_s: float,
    throughput_per_s: float,
    energy: Energy | None,
    conditions: Conditions,
    doubts: tuple[Doubt, ...],
) -> WayFigures:
    """Return what `queries`, of which there is at least one, amount to; see `WayFigures`."""
    samples = [sample for query in queries for sample in query]
    # What was answered otherwise has other stages, and is counted in `doubts`.
    good = [sample for sample in samples if sample.as_asked] or samples
    payloads = [sample.event.payload_bytes for sample in good if sample.event.payload_bytes]
    return WayFigures(
        way=way,
        scenario=load.scenario,
        queries=len(queries),
        frames=len(samples),
        rate_per_s=load.rate_per_s if load.scenario == "Server" else None,
        warm_up_s=warm_up_s,
        elapsed_s=elapsed_s,
        throughput_per_s=throughput_per_s,
        payload_bytes=float(np.mean(payloads)) if payloads else None,
        parts=part_quantiles(good),
        stages=stage_quantiles(good),
        latency=quantiles([sample.latency_s for sample in good]),
        query=quantiles([max(sample.latency_s for sample in query) for query in queries]),
        sum_over_latency=sum_over_latency(samples),
        energy=energy,
        conditions=conditions,
        doubts=doubts,
    )
