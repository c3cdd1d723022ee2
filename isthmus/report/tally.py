"""Everything a report says about frames, added up while they are read: memory does not grow with the log.

A tally is fed batch by batch, in whatever order, and two of them can be added up, so that parts of a log may
be read side by side. Counts, sums and means are exact; quantiles while there are few values (`quantiles`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.report.buckets import TimeBuckets
from isthmus.report.connectivity import ConnectedRule, Interval
from isthmus.report.frames import NOTHING, Frames, join
from isthmus.report.number_set import NumberSet
from isthmus.report.quantiles import Quantiles
from isthmus.report.stages import STAGE_NAMES, stage_seconds
from isthmus.runtime.events import OUTCOMES

_REMOTE, _DROPPED = OUTCOMES.index("remote"), OUTCOMES.index("dropped")
# Bins of latency over time: eight an octave, from 10 µs on.
LATENCY_BINS = 200
LATENCY_LEAST_S = 1e-5
_BINS_PER_OCTAVE = 8
# The sums that are kept per operating point and outcome, beside those of the stages.
_SUMS = ("frames", "sent", "payload_bytes", "probes", "known", "right", "timed", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of a run before its frames are counted.

    Attributes:
        connected: Which frames count as captured while connected.
        gaps: Outages and disconnections, in time order.
        teacher: The uncut network's answers and the true classes of the source's images [2, images].
        radio_tail_s: For how long a radio stays awake after a transfer; 0 without a model of it.
        windows_s: Stretches [from, until) whose frames are kept one by one; None: all are.
    """

    connected: ConnectedRule
    gaps: tuple[Interval, ...] = ()
    teacher: NDArray[np.int64] | None = None
    radio_tail_s: float = 0.0
    windows_s: tuple[tuple[float, float], ...] | None = None


class FrameTally:
    """The frames of a run, or of a part of its log, added up.

    Attributes:
        frames: How many there are.
        first_s, last_s: The first capture, and the last end.
        sums: By name of `_SUMS`, per operating point and outcome [points, outcomes].
        stage_s: Sums of seconds [stages, points, outcomes] over the frames that were answered.
        latency: By outcome, then by operating point of the frames the server answered in time.
        cover: Of a frame's latency, the share that its stages explain.
        counts: Of accuracy, by name: (right, known).
        gap_outcomes: Frames captured in each gap [gaps, outcomes].
        gap_recovered_s: Capture of the first frame after each gap that the server answered; infinite: none.
        moments: Frames over time, channel = point × outcomes + outcome.
        latencies: Latencies over time, channel = bin (`latency_bin`).
        reasons: Frames by reason.
        teacher_agrees: The teacher's classes are those of every frame.
        radio_awake_s: Seconds for which the radio was awake, as its tail has it.
    """

    def __init__(self, context: Context) -> None:
        """Start without frames."""
        self._context = context
        self.frames = 0
        self.first_s, self.last_s = math.inf, -math.inf
        self.sums = {name: np.zeros((0, len(OUTCOMES))) for name in _SUMS}
        self.stage_s = np.zeros((len(STAGE_NAMES), 0, len(OUTCOMES)))
        self.latency: dict[str, Quantiles] = {}
        self.point_latency: dict[int, Quantiles] = {}
        self.cover = Quantiles()
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.connected_frames = 0
        self.gap_outcomes = np.zeros((len(context.gaps), len(OUTCOMES)), dtype=np.int64)
        self.gap_recovered_s = np.full(len(context.gaps), np.inf)
        self.moments, self.latencies = TimeBuckets(), TimeBuckets()
        self.reasons = np.zeros(0, dtype=np.int64)
        self.numbers = NumberSet()
        self.teacher_agrees = True
        self.radio_awake_s = 0.0
        self._sent_edges_s: tuple[float, float] | None = None
        self._kept: list[Frames] = []

    def add(self, frames: Frames) -> None:
        """Add the frames of a batch."""
        self.frames += len(frames)
        self.first_s = min(self.first_s, float(frames.captured_s.min()))
        self.last_s = max(self.last_s, float(frames.ended_s.max()))
        self._add_sums(frames)
        self._add_latencies(frames)
        self._add_accuracy(frames)
        self._add_gaps(frames)
        self._add_radio(np.sort(frames.captured_s[frames.payload_bytes > 0]))
        self.moments.add(frames.captured_s, frames.point * len(OUTCOMES) + frames.outcome)
        self.numbers.add(frames.frame)
        counted = np.bincount(frames.reason, minlength=len(self.reasons))
        counted[: len(self.reasons)] += self.reasons
        self.reasons = counted
        windows_s = self._context.windows_s
        if windows_s is None:
            self._kept.append(frames)
        else:
            inside = np.zeros(len(frames), dtype=np.bool_)
            for begin_s, end_s in windows_s:
                inside |= (frames.captured_s >= begin_s) & (frames.captured_s < end_s)
            if bool(inside.any()):
                self._kept.append(frames.take(inside))

    def merge(self, other: FrameTally, *, points: NDArray[np.int64], reasons: NDArray[np.int64]) -> None:
        """Add what a later part of the same log holds.

        Args:
            other: The later part; not to be used any more.
            points: The index here of each of its operating points.
            reasons: The index here of each of its reasons.
        """
        self.frames += other.frames
        self.first_s, self.last_s = min(self.first_s, other.first_s), max(self.last_s, other.last_s)
        used = points[: other.stage_s.shape[1]]
        self._grow(int(used.max(initial=-1)) + 1)
        for name, table in other.sums.items():
            self.sums[name][used] += table
        self.stage_s[:, used] += other.stage_s
        for name, part in other.latency.items():
            self.latency.setdefault(name, Quantiles()).merge(part)
        for point, part in other.point_latency.items():
            self.point_latency.setdefault(int(points[point]), Quantiles()).merge(part)
        self.cover.merge(other.cover)
        for name, counted in other.counts.items():
            self.counts[name] = self.counts.get(name, np.zeros(2, dtype=np.int64)) + counted
        self.connected_frames += other.connected_frames
        self.gap_outcomes += other.gap_outcomes
        self.gap_recovered_s = np.minimum(self.gap_recovered_s, other.gap_recovered_s)
        channels = (points[:, None] * len(OUTCOMES) + np.arange(len(OUTCOMES))).ravel()
        self.moments.merge(other.moments.with_channels(channels))
        self.latencies.merge(other.latencies)
        self.numbers.merge(other.numbers)
        self.teacher_agrees &= other.teacher_agrees
        counted = np.zeros(max(len(self.reasons), int(reasons.max(initial=-1)) + 1), dtype=np.int64)
        counted[: len(self.reasons)] += self.reasons
        counted[reasons[: len(other.reasons)]] += other.reasons
        self.reasons = counted
        self._merge_radio(other)
        self._kept += [
            replace(frames, point=points[frames.point], reason=reasons[frames.reason])
            for frames in other._kept
        ]

    def _merge_radio(self, other: FrameTally) -> None:
        edges_s, self.radio_awake_s = other._sent_edges_s, self.radio_awake_s + other.radio_awake_s
        if edges_s is not None and self._sent_edges_s is not None:
            between_s = max(0.0, edges_s[0] - self._sent_edges_s[1])
            self.radio_awake_s += min(between_s, self._context.radio_tail_s)
            edges_s = (self._sent_edges_s[0], edges_s[1])
        self._sent_edges_s = edges_s or self._sent_edges_s

    def kept(self) -> Frames | None:
        """Return the frames that were kept one by one, in order of capture; None if none was."""
        if not self._kept:
            return None
        self._kept = [join(self._kept)]
        return self._kept[0].in_order()

    def quantiles(self) -> Quantiles:
        """Return the latencies of all answered frames."""
        everything = Quantiles()
        for part in self.latency.values():
            everything.merge(part)
        return everything

    def _add_sums(self, frames: Frames) -> None:
        width = len(OUTCOMES)
        points = max(int(frames.point.max()) + 1, self.stage_s.shape[1])
        self._grow(points)
        cell = frames.point * width + frames.outcome

        def per_cell(weights: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
            summed = np.bincount(cell, weights.astype(np.float64), minlength=points * width)
            return np.asarray(summed.reshape(points, width), dtype=np.float64)

        latency_s = frames.time_s("latency_s")
        timed = ~np.isnan(latency_s) & (frames.outcome != _DROPPED)
        known = frames.truth != NOTHING
        self.sums["frames"] += per_cell(np.ones(len(frames), dtype=np.bool_))
        self.sums["sent"] += per_cell(frames.payload_bytes > 0)
        self.sums["payload_bytes"] += per_cell(frames.payload_bytes.astype(np.float64))
        self.sums["probes"] += per_cell(frames.probe != 0)
        self.sums["known"] += per_cell(known)
        self.sums["right"] += per_cell(known & (frames.answer == frames.truth))
        self.sums["timed"] += per_cell(timed)
        self.sums["latency_s"] += per_cell(np.where(timed, latency_s, 0.0))
        stage_s = np.nan_to_num(np.where(timed, stage_seconds(frames), 0.0), nan=0.0)
        for index, seconds in enumerate(stage_s):
            if bool(seconds.any()):
                self.stage_s[index] += per_cell(seconds)
        explained = stage_s.sum(axis=0)
        told = timed & (explained > 0) & (latency_s > 0)
        self.cover.add(explained[told] / latency_s[told])

    def _add_latencies(self, frames: Frames) -> None:
        latency_s = frames.time_s("latency_s")
        timed = ~np.isnan(latency_s) & (frames.outcome != _DROPPED)
        for index, name in enumerate(OUTCOMES):
            here = timed & (frames.outcome == index)
            if bool(here.any()):
                self.latency.setdefault(name, Quantiles()).add(latency_s[here])
        remote = timed & (frames.outcome == _REMOTE)
        for point in np.unique(frames.point[remote]):
            values_s = latency_s[remote & (frames.point == point)]
            self.point_latency.setdefault(int(point), Quantiles()).add(values_s)
        self.latencies.add(frames.captured_s[timed], latency_bin(latency_s[timed]))

    def _add_accuracy(self, frames: Frames) -> None:
        known, in_time = frames.truth != NOTHING, frames.in_time()
        right = known & in_time & (frames.answer == frames.truth)
        connected = self._context.connected.mask(frames.captured_s)
        self._count("run", right, known & in_time)
        self._count("remote", right & (frames.outcome == _REMOTE), known & (frames.outcome == _REMOTE))
        self._count("run_correct_in_time", right, known)
        if connected is not None:
            self.connected_frames += int(connected.sum())
            self._count("connected", right & connected, known & in_time & connected)
            self._count("connected_correct_in_time", right & connected, known & connected)
        teacher = self._context.teacher
        if teacher is not None and self.teacher_agrees:
            answers, labels = teacher[:, frames.frame % teacher.shape[1]]
            self.teacher_agrees = bool(np.array_equal(labels, frames.truth))
            if connected is not None:
                asked = known & in_time & connected
                self._count("teacher", asked & (answers == frames.truth), asked)

    def _count(self, name: str, right: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
        counted = np.array([int(right.sum()), int(known.sum())])
        self.counts[name] = self.counts.get(name, np.zeros(2, dtype=np.int64)) + counted

    def _add_gaps(self, frames: Frames) -> None:
        if not self._context.gaps:
            return
        remote_s = np.sort(frames.captured_s[frames.outcome == _REMOTE])
        for kind in ("outage", "disconnected"):  # those of one kind do not overlap
            rows = np.array(
                [i for i, gap in enumerate(self._context.gaps) if gap.kind == kind], dtype=np.int64
            )
            if not len(rows):
                continue
            begins_s = np.array([self._context.gaps[i].start_s for i in rows])
            ends_s = np.array([self._context.gaps[i].end_s for i in rows])
            last = np.searchsorted(begins_s, frames.captured_s, side="right") - 1
            inside = (last >= 0) & (frames.captured_s < ends_s[np.maximum(last, 0)])
            np.add.at(self.gap_outcomes, (rows[last[inside]], frames.outcome[inside]), 1)
            following = np.searchsorted(remote_s, ends_s)
            there = following < len(remote_s)
            found_s = remote_s[following[there]]
            self.gap_recovered_s[rows[there]] = np.minimum(self.gap_recovered_s[rows[there]], found_s)

    def _add_radio(self, sent_s: NDArray[np.float64]) -> None:
        """Add the awake times between transfers; that batches overlap by a few frames changes little."""
        if not len(sent_s):
            return
        tail_s = self._context.radio_tail_s
        self.radio_awake_s += float(np.minimum(np.diff(sent_s), tail_s).sum())
        edges_s = (float(sent_s[0]), float(sent_s[-1]))
        if self._sent_edges_s is not None:
            self.radio_awake_s += min(max(0.0, edges_s[0] - self._sent_edges_s[1]), tail_s)
            edges_s = (self._sent_edges_s[0], edges_s[1])
        self._sent_edges_s = edges_s

    def _grow(self, points: int) -> None:
        missing = points - self.stage_s.shape[1]
        if missing > 0:
            self.sums = {name: np.pad(table, ((0, missing), (0, 0))) for name, table in self.sums.items()}
            self.stage_s = np.pad(self.stage_s, ((0, 0), (0, missing), (0, 0)))


def latency_bin(latency_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin over time of each latency."""
    octaves = np.log2(np.maximum(latency_s, LATENCY_LEAST_S) / LATENCY_LEAST_S)
    bins = np.floor(octaves * _BINS_PER_OCTAVE).astype(np.int64)
    return np.asarray(np.minimum(bins, LATENCY_BINS - 1))


def latency_edges_s() -> NDArray[np.float64]:
    """Return the bounds of the bins of `latency_bin`, seconds."""
    return np.asarray(LATENCY_LEAST_S * 2.0 ** (np.arange(LATENCY_BINS + 1) / _BINS_PER_OCTAVE))
