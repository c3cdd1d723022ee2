"""The distributions of a real run, read from its event log.

What the log holds as such (head, encode, server) is taken as it is. What remains of a frame's latency is the
device's own loop and threads; what remains of the time between sending and answer, beyond the server's part
and the link's, is jitter, half of it each way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import Event, FrameEvent, LinkEvent, RunEvent, ShapeEvent
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation.distribution import Constant, Distribution, Empirical

# Beyond so many samples a distribution is known well enough; every n-th is kept.
_MOST_SAMPLES = 4000
# Share of the shortest round trips that are taken for the path itself.
_FLOOR_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTimes:
    """What a run's log says about time.

    Attributes:
        head_s: Per width index that was run.
        encode_s, server_s, server_queue_s: As logged.
        wake_s: What a frame that the server answered took on the device beyond head and encode.
        jitter_s: Each way, beyond the link and `delay_s`.
        delay_s: One way.
        trace: The rate over the run: the emulated link's true one if the log has it, else the estimated one.
        trace_start_s: The log's instant at which the trace begins.
        first_s: The log's instant of the first capture.
        connect_s: From there until the capture of the first frame that was sent.
        fps, deadline_s: As the run was told; None if the log has lost its first line.
    """

    head_s: dict[int, Distribution]
    encode_s: Distribution
    server_s: Distribution
    server_queue_s: Distribution
    wake_s: Distribution
    jitter_s: Distribution
    delay_s: float
    trace: RateTrace
    trace_start_s: float
    first_s: float
    connect_s: float
    fps: float | None
    deadline_s: float | None


def measured_times(
    events: Iterable[Event], *, name: str, overhead_bytes: int = DEFAULT_OVERHEAD_BYTES
) -> MeasuredTimes:
    """Return the distributions of the run that `events` tell of.

    Args:
        events: Of the agent and, better, of the emulated link too.
        name: What messages call it.
        overhead_bytes: What the wire adds to a payload.

    Raises:
        ArtifactError: If no frame was answered by the server: there is nothing to learn the path from.
    """
    kept = list(events)
    frames = sorted((e for e in kept if isinstance(e, FrameEvent)), key=lambda event: event.captured_s)
    answered = [event for event in frames if event.remote_s is not None and event.latency_s is not None]
    if not answered:
        raise ArtifactError(
            f"{name}: the server answered no frame, so there is no path to learn; give another run's log"
        )
    run = next((event for event in kept if isinstance(event, RunEvent)), None)
    trace, trace_start_s = _trace(kept, frames[0].captured_s, name)
    heads: dict[int, list[float]] = defaultdict(list)
    for event in frames:
        if event.point is not None and event.head_s is not None:
            heads[event.point.width_index].append(event.head_s)
    delay_s, jitter_s = _path(answered, trace, trace_start_s, overhead_bytes)
    return MeasuredTimes(
        head_s={width: _empirical(values) for width, values in heads.items()},
        encode_s=_empirical([e.encode_s for e in frames if e.encode_s is not None]),
        server_s=_empirical([e.server_compute_s for e in answered if e.server_compute_s is not None]),
        server_queue_s=_empirical([e.server_queue_s for e in answered if e.server_queue_s is not None]),
        wake_s=_empirical([max(0.0, _beyond(event)) for event in answered]),
        jitter_s=jitter_s,
        delay_s=delay_s,
        trace=trace,
        trace_start_s=trace_start_s,
        first_s=frames[0].captured_s,
        connect_s=next(e.captured_s for e in frames if e.payload_bytes) - frames[0].captured_s,
        fps=None if run is None else run.fps,
        deadline_s=None if run is None else run.deadline_s,
    )


def _beyond(event: FrameEvent) -> float:
    return (
        (event.latency_s or 0.0) - (event.head_s or 0.0) - (event.encode_s or 0.0) - (event.remote_s or 0.0)
    )


def _path(
    answered: Sequence[FrameEvent], trace: RateTrace, trace_start_s: float, overhead_bytes: int
) -> tuple[float, Distribution]:
    """Return the delay one way, and the jitter one way, of frames that found the link idle."""
    trips = []
    free_s = float("-inf")
    for event in sorted(answered, key=lambda event: event.at_s - (event.remote_s or 0.0)):
        sent_s = event.at_s - (event.remote_s or 0.0)
        if sent_s < free_s or sent_s < trace_start_s:
            free_s = max(free_s, event.at_s)
            continue
        free_s = event.at_s
        within_s = sent_s - trace_start_s
        crossing_s = trace.finish(within_s, event.payload_bytes + overhead_bytes) - within_s
        server_s = (event.server_queue_s or 0.0) + (event.server_compute_s or 0.0)
        trips.append(max(0.0, (event.remote_s or 0.0) - server_s - crossing_s) / 2)
    if not trips:
        return 0.0, Constant(0.0)
    floor_s = sorted(trips)[int(_FLOOR_SHARE * len(trips))]
    return floor_s, _empirical([max(0.0, trip_s - floor_s) for trip_s in trips])


def _trace(events: Sequence[Event], first_s: float, name: str) -> tuple[RateTrace, float]:
    """Return the rate over the run and the instant at which it begins."""
    told = [(e.at_s, e.rate_bytes_per_s) for e in events if isinstance(e, ShapeEvent)]
    if not told:
        told = [
            (event.at_s, event.rate_bytes_per_s)
            for event in events
            if isinstance(event, LinkEvent) and event.rate_bytes_per_s is not None
        ]
        # An estimate holds for the second before it.
        told = [(at_s - 1.0, rate) for at_s, rate in told]
    if not told:
        raise ArtifactError(f"{name}: neither the link's rate nor an estimate of it; give the link's log too")
    told.sort()
    end_s = max(max(event.at_s for event in events), told[-1][0] + 1.0)
    begins = [at_s for at_s, _ in told]
    segments = [
        (until_s - begin_s, rate)
        for (begin_s, rate), until_s in zip(told, [*begins[1:], end_s], strict=True)
        if until_s > begin_s
    ]
    return RateTrace(segments, name=name), begins[0]


def _empirical(values: list[float]) -> Distribution:
    if not values:
        return Constant(0.0)
    step = -(-len(values) // _MOST_SAMPLES)
    return Empirical(tuple(max(0.0, value) for value in values[::step]))
