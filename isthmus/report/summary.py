"""What a run's logs say, in numbers: accounting, accuracy, latency, bytes, interruptions.

Decides how every figure of a report is computed; each field's docstring says how. Pure: a `RunLog` in, facts
out, so that the page, `--json` and later comparisons of runs state the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isthmus.report.breakdown import PointUse, ReasonUse, Stages, point_uses, reason_uses, stage_rows
from isthmus.report.connectivity import LINK_PERIOD_S, guard_s
from isthmus.report.energy import EnergyUse, energy_use
from isthmus.report.labels import count
from isthmus.report.quantiles import Quantiles
from isthmus.report.regret import Regret
from isthmus.report.replay import replayed_regret
from isthmus.report.runlog import DeadlineChange, RunLog
from isthmus.report.statistics import Durations, Share, durations, share
from isthmus.runtime.events import OUTCOMES
from isthmus.runtime.units import format_duration


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
        deadline_s: At the start; `deadline_changes` says when it became another one.
        in_time: Share of captured frames answered before their deadline.
        latency: Capture to answer of every answered frame, late ones included.
        latency_by_outcome: The same by outcome.
        sent_frames: Frames with a payload on the link.
        payload_bytes_mean: Over the frames sent; headers included, gRPC and below not.
        reconnects: From the end event; None without one.
        stages_explain: Median share of a frame's latency that its stages add up to; None without stages.
        throttled_s: Seconds for which the device said that it ran slower than it could; None: it cannot tell.
        temperature_max_c: Of the hottest computing part; None: unknown.
    """

    name: str
    policy: str | None
    source: str | None
    start_s: float
    duration_s: float
    deadline_s: float | None
    deadline_changes: tuple[DeadlineChange, ...]
    accounting: Accounting
    accuracy: Accuracy
    in_time: Share | None
    latency: Durations | None
    latency_by_outcome: dict[str, Durations]
    sent_frames: int
    payload_bytes_mean: float | None
    payload_bytes_total: int
    reconnects: int | None
    throttled_s: float | None
    temperature_max_c: float | None
    interruptions: tuple[Interruption, ...]
    points: tuple[PointUse, ...]
    stages: tuple[Stages, ...]
    stages_explain: float | None
    energy: EnergyUse | None
    regret: Regret | None
    reasons: tuple[ReasonUse, ...]
    notes: tuple[str, ...]

    @property
    def deadline_label(self) -> str:
        """What a legend calls the line of the deadline that the run began with."""
        first = "none" if self.deadline_s is None else format_duration(self.deadline_s)
        return f"deadline, {first}" + (" at first" if self.deadline_changes else "")


def summarise(log: RunLog) -> Summary:
    """Return the figures of the run in `log`."""
    tally, sums = log.tally, log.tally.sums
    counts = log.outcome_counts()
    sent, sent_bytes = int(sums["sent"].sum()), int(sums["payload_bytes"].sum())
    run = log.run
    return Summary(
        name=log.name,
        policy=run.policy if run else None,
        source=run.source if run else None,
        start_s=log.start_s,
        duration_s=log.duration_s,
        deadline_s=run.deadline_s if run else None,
        deadline_changes=log.deadline_changes(),
        accounting=_account(log),
        accuracy=_accuracy(log),
        in_time=share(sum(counts[name] for name in ("remote", "exit", "local")), tally.frames),
        latency=durations(tally.quantiles()),
        latency_by_outcome=_by_outcome(log),
        sent_frames=sent,
        payload_bytes_mean=sent_bytes / sent if sent else None,
        payload_bytes_total=sent_bytes,
        reconnects=log.end.reconnects if log.end else None,
        throttled_s=_throttled_s(log),
        temperature_max_c=_temperature_c(log),
        interruptions=_interruptions(log),
        points=point_uses(log),
        stages=stage_rows(log),
        stages_explain=tally.cover.at((0.5,))[0] if tally.cover.count else None,
        energy=energy_use(
            log.links,
            tally,
            start_s=log.start_s,
            idle_w=run.idle_w if run else None,
            radio=run.radio if run else None,
        ),
        regret=replayed_regret(log),
        reasons=reason_uses(log),
        notes=_notes(log),
    )


def _by_outcome(log: RunLog) -> dict[str, Durations]:
    found = {name: log.tally.latency.get(name, Quantiles()) for name in OUTCOMES}
    times = {name: durations(values_s) for name, values_s in found.items()}
    return {name: value for name, value in times.items() if value is not None}


def _throttled_s(log: RunLog) -> float | None:
    known = ~np.isnan(log.links.throttled)
    if not bool(known.any()):
        return None
    # A statement holds until the next one; the last one for the usual second.
    lengths_s = np.diff(np.append(log.links.at_s, log.links.at_s[-1] + LINK_PERIOD_S))
    return float(lengths_s[known & (log.links.throttled > 0)].sum())


def _temperature_c(log: RunLog) -> float | None:
    known = log.links.temperature_c[~np.isnan(log.links.temperature_c)]
    return float(known.max()) if len(known) else None


def _account(log: RunLog) -> Accounting:
    counts = log.outcome_counts()
    logged, repeated = log.tally.frames, log.tally.numbers.repeated
    captured = log.end.captured if log.end else logged
    stated = {name: log.end.outcomes.get(name, 0) for name in OUTCOMES} if log.end else counts
    balanced = repeated == 0 and captured == logged and stated == counts
    terms = " + ".join(f"{count(frames)} {name}" for name, frames in counts.items())
    sign = "=" if captured == sum(counts.values()) else "≠"
    return Accounting(
        captured=captured,
        logged=logged,
        outcomes=counts,
        repeated=repeated,
        ended=log.end is not None,
        balanced=balanced,
        statement=f"{count(captured)} captured {sign} {terms}",
    )


def _accuracy(log: RunLog) -> Accuracy:
    counts = log.tally.counts
    shares = {name: share(int(right), int(known)) for name, (right, known) in counts.items()}
    connected = shares.get("connected")
    same_frames = log.tally.teacher_agrees and shares.get("teacher") is not None
    teacher: float | None
    if same_frames:
        right, known = counts["teacher"]
        teacher = float(right / known)
    else:
        teacher = log.run.teacher_utility if log.run else log.table.teacher_utility if log.table else None
    told = "connected" in counts
    return Accuracy(
        run=shares.get("run"),
        connected=connected,
        remote=shares.get("remote"),
        run_correct_in_time=shares.get("run_correct_in_time"),
        connected_correct_in_time=shares.get("connected_correct_in_time"),
        teacher=teacher,
        teacher_same_frames=same_frames and connected is not None,
        connected_minus_teacher=connected.value - teacher if connected and teacher is not None else None,
        connected_frames=log.tally.connected_frames if told else None,
        guard_s=guard_s(log.run.deadline_s if log.run else 0.0),
    )


def _interruptions(log: RunLog) -> tuple[Interruption, ...]:
    tally = log.tally
    return tuple(
        Interruption(
            kind=gap.kind,
            start_s=gap.start_s - log.start_s,
            duration_s=gap.duration_s,
            outcomes={name: int(frames) for name, frames in zip(OUTCOMES, counts, strict=True)},
            recovered_s=float(recovered_s - gap.end_s) if math.isfinite(recovered_s) else None,
        )
        for gap, counts, recovered_s in zip(log.gaps, tally.gap_outcomes, tally.gap_recovered_s, strict=True)
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
    if log.torn:
        notes.append("The log ends in the middle of a line, as after a loss of power: all whole lines count.")
    if not len(log.links):
        notes.append("The log has no link events: the estimated rate and the connection are unknown.")
    if not len(log.shapes):
        notes.append("No log of an emulated link: the true rate is unknown, outages are not excluded.")
    if log.table is None:
        notes.append("No bundle: accuracy against bytes shows this run's frames only (give --bundle DIR).")
    if not log.tally.numbers.complete:
        notes.append("Frame numbers jump about too widely to look for all that occur twice.")
    return tuple(notes)
