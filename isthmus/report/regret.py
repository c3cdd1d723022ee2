"""How far a run stayed behind one who had known the link's whole future.

The clairvoyant (`runtime.control.oracle`) sees the rates that the link really had, the instants at which
frames were really captured and the times that this run's device and server really took; what an answer is
worth is the bundle's measured accuracy. Of a long run some windows are replayed, each beginning with an empty
link, which favours the clairvoyant. Its server is always there and random times count with their medians, so
that it is an upper end, not a promise. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.frames import Frames
from isthmus.report.links import Shapes
from isthmus.runtime.bundle import OperatingPoint, PointRecord, PointTable
from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.control.oracle import Shipment, oracle
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import OUTCOMES, Event, FrameEvent, Outcome, ShapeEvent
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import MeasuredTimes, measured_times

# What `measured_times` reads of a frame.
_TIMES = ("latency_s", "head_s", "encode_s", "remote_s", "server_queue_s", "server_compute_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegretBin:
    """Mean worth of a frame over a stretch of the run, seconds since its start."""

    start_s: float
    end_s: float
    frames: int
    utility: float
    oracle_utility: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """The run beside the clairvoyant.

    Attributes:
        link: Which rates were replayed.
        frames: How many were, of the whole run or, if `windows` > 1, of so many windows of it.
        utility, oracle_utility: What a frame's answer was worth on average, and the most it could have been.
        regret: 1 − utility / oracle_utility; 0 where even the clairvoyant got nothing.
        choices: Share of frames answered in time by each way, the run's and the clairvoyant's; a way is an
            operating point, or "device".
        bins: Over time.
    """

    link: str
    frames: int
    windows: int
    utility: float
    oracle_utility: float
    regret: float
    choices: tuple[tuple[str, float, float], ...]
    bins: tuple[RegretBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the clairvoyant needs to know of a run.

    Attributes:
        frames: Those kept one by one, in order of capture.
        points: Operating points by index.
        table: The bundle's measured accuracies and sizes.
        deadline_s: Of each of the frames.
        rates: Returns the rates from one instant until another, the first not after the beginning.
        link: What the rates are called.
        windows_s: The stretches that the frames are of.
        name: Of a point, for people.
        start_s: The start of the run.
    """

    frames: Frames
    points: Sequence[OperatingPoint | None]
    table: PointTable
    deadline_s: NDArray[np.float64]
    rates: Callable[[float, float], Shapes]
    link: str
    windows_s: Sequence[tuple[float, float]]
    name: Callable[[OperatingPoint], str]
    start_s: float


def regret_of(replay: Replay) -> Regret | None:
    """Return how the run compares; None if the server answered no frame: then its path is unknown."""
    shapes = [replay.rates(begin_s, end_s) for begin_s, end_s in replay.windows_s]
    events: list[Event] = [
        ShapeEvent(at_s=float(at_s), rate_bytes_per_s=float(rate))
        for part in shapes
        for at_s, rate in zip(part.at_s, part.rate_bytes_per_s, strict=True)
    ]
    try:
        times = measured_times([*events, *_events_of(replay)], name=replay.link)
    except ArtifactError:
        return None
    worth = _worth(replay)
    best, chosen = np.zeros(len(worth)), [""] * len(worth)
    for (begin_s, end_s), part in zip(replay.windows_s, shapes, strict=True):
        rows = np.flatnonzero((replay.frames.captured_s >= begin_s) & (replay.frames.captured_s < end_s))
        for row, (value, way) in zip(rows, _foresee(replay, rows, part, times, end_s), strict=True):
            best[row], chosen[row] = value, way
    mean, most = float(worth.mean()), float(best.mean())
    return Regret(
        link=replay.link,
        frames=len(worth),
        windows=len(replay.windows_s),
        utility=mean,
        oracle_utility=most,
        regret=1.0 - mean / most if most > 0 else 0.0,
        choices=_choices(replay, chosen),
        bins=_bins(replay, worth, best),
    )


def _events_of(replay: Replay) -> list[FrameEvent]:
    """Return the frames as events, as far as `measured_times` reads them."""
    frames = replay.frames
    facts = zip(
        frames.ended_s, frames.frame, frames.captured_s, frames.outcome, frames.point, frames.payload_bytes,
        strict=True,
    )  # fmt: skip
    times_s = zip(*(frames.time_s(name) for name in _TIMES), strict=True)
    return [
        FrameEvent(
            at_s=float(ended_s),
            frame=int(number),
            captured_s=float(captured_s),
            outcome=OUTCOMES[outcome],
            point=replay.points[point],
            payload_bytes=int(nbytes),
            **dict(zip(_TIMES, map(_or_none, row), strict=True)),  # type: ignore[arg-type]
        )
        for (ended_s, number, captured_s, outcome, point, nbytes), row in zip(facts, times_s, strict=True)
    ]


def _or_none(seconds: float) -> float | None:
    return None if np.isnan(seconds) else float(seconds)


def _worth(replay: Replay) -> NDArray[np.float64]:
    """Return what the answer of each frame is worth, as the bundle measured it; 0 if none came in time."""
    table = replay.table
    local = table.local.utility if table.local else 0.0
    exits = {answer.width_index: answer.utility for answer in table.exits}
    records = {record.point: record.utility for record in table.records}

    def worth(outcome: Outcome, point: OperatingPoint | None) -> float:
        if outcome == "remote":
            return records.get(point, 0.0) if point else 0.0
        if outcome == "exit":
            return exits.get(point.width_index, 0.0) if point else 0.0
        return local if outcome == "local" else 0.0

    cells = np.array([[worth(outcome, point) for outcome in OUTCOMES] for point in replay.points])
    return np.asarray(cells[replay.frames.point, replay.frames.outcome])


def _foresee(
    replay: Replay, rows: NDArray[np.int64], rates: Shapes, times: MeasuredTimes, end_s: float
) -> list[tuple[float, str]]:
    """Return, for each frame of a window, the worth of the clairvoyant's answer and the way it took."""
    zero_s = float(min(rates.at_s[0], replay.frames.captured_s[rows[0]])) if len(rows) else 0.0
    trace = _trace(rates, zero_s, end_s + float(replay.deadline_s.max()) + 1.0)
    heads = _head_times(replay, times)
    before_s = times.encode_s.median_s + times.wake_s.median_s
    back_s = 2 * (times.delay_s + times.jitter_s.median_s) + times.server_s.median_s
    back_s += times.server_queue_s.median_s
    frames: list[tuple[float, list[Shipment]]] = []
    ways: list[list[PointRecord]] = []
    for row in rows:
        at_s, deadline_s = float(replay.frames.captured_s[row]) - zero_s, float(replay.deadline_s[row])
        size = _size_of(replay, int(row))
        possible = [
            (
                record,
                Shipment(
                    utility=record.utility,
                    nbytes=min(record.bytes_mean * size, record.bytes_max) + DEFAULT_OVERHEAD_BYTES,
                    ready_s=at_s + before_s + heads[record.point.width_index],
                    latest_s=at_s + deadline_s - back_s,
                ),
            )
            for record in replay.table.records
        ]
        possible = [(record, way) for record, way in possible if way.latest_s > way.ready_s]
        ways.append([record for record, _ in possible])
        frames.append((_own(replay.table, heads, deadline_s), [way for _, way in possible]))
    choices = oracle(frames, lambda at_s: trace.bytes_between(0.0, at_s)).choices
    return [
        (own, "device" if own > 0 else "") if choice is None
        else (records[choice].utility, replay.name(records[choice].point))
        for (own, _), records, choice in zip(frames, ways, choices, strict=True)
    ]  # fmt: skip


def _trace(rates: Shapes, zero_s: float, end_s: float) -> RateTrace:
    """Return the rates from `zero_s` until `end_s`; before the first one the first one holds."""
    begins = np.concatenate([[zero_s], rates.at_s[1:], [end_s]])
    pairs = zip(np.diff(begins), rates.rate_bytes_per_s, strict=True)
    return RateTrace([(float(seconds), float(rate)) for seconds, rate in pairs if seconds > 0])


def _head_times(replay: Replay, times: MeasuredTimes) -> dict[int, float]:
    """Return seconds of each width's head: this device's, or the table's at this device's speed."""
    table = {record.point.width_index: record.head_s for record in replay.table.records}
    ratios = [times.head_s[w].median_s / s for w, s in table.items() if w in times.head_s and s > 0]
    speed = float(np.median(ratios)) if ratios else 1.0
    return {w: times.head_s[w].median_s if w in times.head_s else s * speed for w, s in table.items()}


def _size_of(replay: Replay, row: int) -> float:
    """Return how a frame's payload compares with its point's mean: hard images are large at all."""
    nbytes, point = int(replay.frames.payload_bytes[row]), replay.points[replay.frames.point[row]]
    means = [record.bytes_mean for record in replay.table.records if record.point == point]
    return nbytes / means[0] if nbytes and means else 1.0


def _own(table: PointTable, heads: dict[int, float], deadline_s: float) -> float:
    """Return what the device's best answer within the deadline is worth."""
    answers = [0.0]
    if table.local is not None and table.local.compute_s <= deadline_s:
        answers.append(table.local.utility)
    answers += [
        answer.utility
        for answer in table.exits
        if answer.width_index is not None
        and heads.get(answer.width_index, 0.0) + answer.compute_s <= deadline_s
    ]
    return max(answers)


def _choices(replay: Replay, chosen: Sequence[str]) -> tuple[tuple[str, float, float], ...]:
    """Return the share of frames by way of answer, the run's and the clairvoyant's, most of either first."""
    frames, total = replay.frames, len(chosen)
    theirs = Counter(chosen)
    mine: Counter[str] = Counter()
    for point, outcome in zip(frames.point, frames.outcome, strict=True):
        at = replay.points[point]
        if OUTCOMES[outcome] == "remote" and at is not None:
            mine[replay.name(at)] += 1
        elif OUTCOMES[outcome] in ("exit", "local"):
            mine["device"] += 1
    names = sorted({*mine, *theirs} - {""}, key=lambda name: -max(mine[name], theirs[name]))
    return tuple((name, mine[name] / total, theirs[name] / total) for name in names)


def _bins(
    replay: Replay, worth: NDArray[np.float64], best: NDArray[np.float64], *, most: int = 60
) -> tuple[RegretBin, ...]:
    """Return the means over at most `most` stretches of equal length, those without frames left out."""
    at_s = replay.frames.captured_s
    edges_s = np.linspace(float(at_s[0]), float(np.nextafter(at_s[-1], np.inf)), most + 1)
    place = np.clip(np.searchsorted(edges_s, at_s, side="right") - 1, 0, most - 1)
    counts = np.bincount(place, minlength=most)
    sums = (np.bincount(place, values, minlength=most) for values in (worth, best))
    mine, theirs = (total / np.maximum(counts, 1) for total in sums)
    return tuple(
        RegretBin(
            start_s=float(edges_s[i] - replay.start_s),
            end_s=float(edges_s[i + 1] - replay.start_s),
            frames=int(counts[i]),
            utility=float(mine[i]),
            oracle_utility=float(theirs[i]),
        )
        for i in np.flatnonzero(counts)
    )
