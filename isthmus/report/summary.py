"""What a run's logs say, in numbers: accounting, accuracy, latency, bytes, interruptions.

Decides how every figure of a report is computed; each field's docstring says how. Pure: a `RunLog` in, facts
out, so that the page, `--json` and later comparisons of runs state the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.breakdown import PointUse, ReasonUse, Stages, point_uses, reason_uses, stage_rows
from isthmus.report.connectivity import Interval, connected_mask, disconnections, guard_s, outages
from isthmus.report.frames import NOTHING, Frames
from isthmus.report.load import RunLog
from isthmus.report.statistics import Durations, Share, durations, share
from isthmus.runtime.events import OUTCOMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Whether every captured frame ended exactly once.

    Attributes:
        captured: Frames captured: the end event's count; without an end event the frames logged.
        logged: Frame events in the log.
        outcomes: Frames by outcome, from the frame events.
        repeated: Frame numbers logged more than once (must be 0).
        ended: The log has its end event.
        balanced: captured = sum of outcomes, by outcome as the end event says, and no frame twice.
        statement: The equation with its numbers.
    """

    captured: int
    logged: int
    outcomes: dict[str, int]
    repeated: int
    ended: bool
    balanced: bool
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How often answers were right, over frames whose truth is known. A late answer is no answer.

    Two questions, each over the whole run and while connected (`report.connectivity` defines it): *accuracy*
    = right among those answered in time, what the answers were worth (as the agent's own summary states it);
    *correct in time* = right among those captured, which late and dropped frames lower as well.

    Attributes:
        run, connected: Accuracy, over the run and while connected.
        remote: Accuracy of the answers the server gave in time.
        run_correct_in_time, connected_correct_in_time: Right and in time among those captured.
        teacher: Accuracy of the uncut network in [0, 1]: on the frames of `connected` if
            `teacher_same_frames`, else on the bundle's held-out images.
        teacher_same_frames: Whether the run says what the uncut network answers to its frames.
        connected_minus_teacher: `connected` − `teacher`, in accuracy (0.01 = one point).
        connected_frames: Frames captured while connected, truth known or not; None if no log tells.
        guard_s: Seconds around an outage that do not count as connected.
    """

    run: Share | None
    connected: Share | None
    remote: Share | None
    run_correct_in_time: Share | None
    connected_correct_in_time: Share | None
    teacher: float | None
    teacher_same_frames: bool
    connected_minus_teacher: float | None
    connected_frames: int | None
    guard_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """An outage or a disconnection, and what became of the frames captured in it.

    Attributes:
        start_s, duration_s: Since the start of the run, and its length. outcomes: Frames captured in it, by
        outcome. recovered_s: Seconds from its end to the capture of the first frame answered by the server;
        None: none was.
    """

    kind: str
    start_s: float
    duration_s: float
    outcomes: dict[str, int]
    recovered_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one run.

    Attributes:
        start_s: The run's zero on the monotonic axis: the run event, else the first capture.
        duration_s: From there to the end event, else to the last event.
        in_time: Share of captured frames answered before their deadline.
        latency: Capture to answer of every answered frame, late ones included.
        latency_by_outcome: The same by outcome.
        sent_frames: Frames with a payload on the link.
        payload_bytes_mean: Over the frames sent; headers included, gRPC and below not.
        reconnects: From the end event; None without one.
    """

    name: str
    start_s: float
    duration_s: float
    deadline_s: float | None
    accounting: Accounting
    accuracy: Accuracy
    in_time: Share | None
    latency: Durations | None
    latency_by_outcome: dict[str, Durations]
    sent_frames: int
    payload_bytes_mean: float | None
    payload_bytes_total: int
    reconnects: int | None
    interruptions: tuple[Interruption, ...]
    points: tuple[PointUse, ...]
    stages: tuple[Stages, ...]
    reasons: tuple[ReasonUse, ...]
    notes: tuple[str, ...]


def summarise(log: RunLog) -> Summary:
    """Return the figures of the run in `log`."""
    frames = log.frames
    start_s = min(log.run.at_s, float(frames.captured_s[0])) if log.run else float(frames.captured_s[0])
    end_s = log.end.at_s if log.end else float(np.nanmax(frames.ended_s))
    deadline_s = log.run.deadline_s if log.run else None
    gaps = find_gaps(log, start_s=start_s, end_s=end_s)
    sent = frames.payload_bytes[frames.payload_bytes > 0]
    by_outcome = {name: durations(frames.latency_s[frames.ended_as(name)]) for name in OUTCOMES}
    return Summary(
        name=log.name,
        start_s=start_s,
        duration_s=end_s - start_s,
        deadline_s=deadline_s,
        accounting=_account(log),
        accuracy=_accuracy(log, gaps),
        in_time=share(int(frames.in_time().sum()), len(frames)),
        latency=durations(frames.latency_s),
        latency_by_outcome={name: value for name, value in by_outcome.items() if value is not None},
        sent_frames=len(sent),
        payload_bytes_mean=float(sent.mean()) if len(sent) else None,
        payload_bytes_total=int(sent.sum()),
        reconnects=log.end.reconnects if log.end else None,
        interruptions=tuple(_interruption(gap, frames, start_s) for gap in gaps),
        points=point_uses(log),
        stages=stage_rows(log),
        reasons=reason_uses(frames),
        notes=_notes(log),
    )


def find_gaps(log: RunLog, *, start_s: float, end_s: float) -> tuple[Interval, ...]:
    """Return the outages and disconnections of the run in time order, monotonic seconds."""
    deadline_s = log.run.deadline_s if log.run else 0.0
    found = outages(log.shapes, start_s=start_s, end_s=end_s, deadline_s=deadline_s)
    found += disconnections(log.links, start_s=start_s, end_s=end_s)
    return tuple(sorted(found, key=lambda gap: (gap.start_s, gap.kind)))


def outcome_counts(frames: Frames, chosen: NDArray[np.bool_] | None = None) -> dict[str, int]:
    """Return how many of the `chosen` frames (None: all) ended in each outcome."""
    codes = frames.outcome if chosen is None else frames.outcome[chosen]
    counts = np.bincount(codes, minlength=len(OUTCOMES))
    return {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)}


def _account(log: RunLog) -> Accounting:
    counts = outcome_counts(log.frames)
    logged = len(log.frames)
    repeated = logged - len(np.unique(log.frames.frame))
    captured = log.end.captured if log.end else logged
    stated = {name: log.end.outcomes.get(name, 0) for name in OUTCOMES} if log.end else counts
    balanced = repeated == 0 and captured == logged and stated == counts
    terms = " + ".join(f"{count} {name}" for name, count in counts.items())
    sign = "=" if captured == sum(counts.values()) else "≠"
    return Accounting(
        captured=captured,
        logged=logged,
        outcomes=counts,
        repeated=repeated,
        ended=log.end is not None,
        balanced=balanced,
        statement=f"{captured} captured {sign} {terms}",
    )


def _accuracy(log: RunLog, gaps: tuple[Interval, ...]) -> Accuracy:
    frames = log.frames
    deadline_s = log.run.deadline_s if log.run else 0.0
    known = np.asarray(frames.truth != NOTHING)
    in_time = frames.in_time()
    correct = known & in_time & (frames.answer == frames.truth)

    def over(chosen: NDArray[np.bool_]) -> Share | None:
        return share(int((correct & chosen).sum()), int((known & chosen).sum()))

    down = [gap for gap in gaps if gap.kind == "outage"]
    mask = connected_mask(frames.captured_s, log.links, log.shapes, down, deadline_s=deadline_s)
    connected = over(in_time & mask) if mask is not None else None
    if log.teacher is not None and mask is not None and connected is not None:
        answers = np.array(log.teacher.answers)[frames.frame % len(log.teacher.answers)]
        teacher: float | None = float((answers == frames.truth)[known & in_time & mask].mean())
    else:
        teacher = log.run.teacher_utility if log.run else log.points.teacher_utility if log.points else None
    return Accuracy(
        run=over(in_time),
        connected=connected,
        remote=over(frames.ended_as("remote")),
        run_correct_in_time=over(known),
        connected_correct_in_time=over(mask) if mask is not None else None,
        teacher=teacher,
        teacher_same_frames=log.teacher is not None and connected is not None,
        connected_minus_teacher=connected.value - teacher if connected and teacher is not None else None,
        connected_frames=int(mask.sum()) if mask is not None else None,
        guard_s=guard_s(deadline_s),
    )


def _interruption(gap: Interval, frames: Frames, start_s: float) -> Interruption:
    inside = (frames.captured_s >= gap.start_s) & (frames.captured_s < gap.end_s)
    after = frames.captured_s[frames.ended_as("remote") & (frames.captured_s >= gap.end_s)]
    return Interruption(
        kind=gap.kind,
        start_s=gap.start_s - start_s,
        duration_s=gap.duration_s,
        outcomes=outcome_counts(frames, inside),
        recovered_s=float(after[0] - gap.end_s) if len(after) else None,
    )


def _notes(log: RunLog) -> tuple[str, ...]:
    notes = list(log.notes)
    if log.run is None:
        notes.append("The log has no run event: deadline, policy and teacher accuracy are unknown.")
    if log.end is None:
        notes.append(
            "The log has no end event: the agent was killed or still runs. Frames that were under way "
            "at that moment are not in the log, and reconnects are unknown."
        )
    if not log.links:
        notes.append("The log has no link events: the estimated rate and the connection are unknown.")
    if not log.shapes:
        notes.append("No log of an emulated link: the true rate is unknown, outages are not excluded.")
    if log.points is None:
        notes.append("No bundle: accuracy against bytes shows this run's frames only (give --bundle DIR).")
    return tuple(notes)
