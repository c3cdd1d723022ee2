"""What a scenario shows: whether every frame is accounted for, and how soon its utility is back.

Knows event logs and measured tables, no process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.events import EndEvent, Event, FrameEvent, RunEvent

# Of the mean utility before a fault, so much must be there again …
TARGET = 0.95
# … on average over the frames captured in the four seconds that begin so long after the link's return.
WITHIN_S, WINDOW_S = 2.0, 4.0
# Where less was there before it, as on a machine without time, there was little to lose.
LEAST_BEFORE = 0.9
# The mean before is taken over these last seconds before the fault.
BEFORE_S = 4.0
_MOVING_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one run of one scenario showed.

    Attributes:
        captured: Frames captured.
        outcomes: How many ended how.
        violations: What breaks the account of frames, in words; empty: each has exactly one outcome.
        before: Mean utility per frame in the 4 s before the fault; None: the scenario has no return.
        first: The same in the first 2 s after the return, or more where the scenario has reason to allow it.
        after: The same in the 4 s that follow.
        recovered_s: Seconds after the return from which on one second's mean is at least 95 % of `before`;
            infinity: within the window none was.
        worst_ratio: Of several runs pooled, the lowest `ratio`; None: there was one run.
        notes: What the scenario adds for people.
    """

    captured: int
    outcomes: Mapping[str, int]
    violations: tuple[str, ...]
    before: float | None = None
    first: float | None = None
    after: float | None = None
    recovered_s: float | None = None
    worst_ratio: float | None = None
    notes: str = ""

    @property
    def conserved(self) -> bool:
        """Every captured frame has exactly one outcome."""
        return not self.violations

    @property
    def ratio(self) -> float | None:
        """`after` over `before`; None: there is no return."""
        return None if not self.before or self.after is None else self.after / self.before

    def with_violations(self, more: Sequence[str]) -> Verdict:
        """Return the same with more violations."""
        return replace(self, violations=(*self.violations, *more))

    @staticmethod
    def pooled(verdicts: Sequence[Verdict]) -> Verdict:
        """Return one for several runs: counts added up, means of the means, the worst time to recover."""
        captured: Counter[str] = Counter()
        for verdict in verdicts:
            captured.update(verdict.outcomes)
        first = verdicts[0]
        return replace(
            first,
            captured=sum(verdict.captured for verdict in verdicts),
            outcomes=dict(captured),
            violations=tuple(why for verdict in verdicts for why in verdict.violations),
            before=_mean_of([verdict.before for verdict in verdicts]),
            first=_mean_of([verdict.first for verdict in verdicts]),
            after=_mean_of([verdict.after for verdict in verdicts]),
            worst_ratio=min((one.ratio for one in verdicts if one.ratio is not None), default=None),
            recovered_s=max(
                (one.recovered_s for one in verdicts if one.recovered_s is not None), default=None
            ),
        )


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def judge(
    events: Sequence[Event],
    summary: Mapping[str, Any],
    points: PointTable,
    *,
    fault_s: float | None = None,
    return_s: float | None = None,
    deadline_s: float = 0.0,
    within_s: float = WITHIN_S,
    complete: bool = True,
    notes: str = "",
) -> Verdict:
    """Return what a run showed.

    Args:
        events: Its log.
        summary: `captured`, `outcomes` and `events_lost` as the agent stated them when it ended.
        points: What answers are worth.
        fault_s: When the fault began.
        return_s: When what had failed was there again; None: never, or nothing had gone.
        deadline_s: Frames captured so shortly before the fault may already have met it.
        within_s: What it may take after the return.
        complete: The log could be written to the end.
        notes: See `Verdict`.
    """
    frames = [event for event in events if isinstance(event, FrameEvent)]
    found = tuple(violations(events, summary) if complete else violations_of_torn(events, summary))
    verdict = Verdict(
        captured=summary["captured"],
        outcomes={kind: count for kind, count in summary["outcomes"].items() if count},
        violations=found,
        notes=notes,
    )
    if fault_s is None or return_s is None:
        return verdict
    mean = _mean_utility(frames, points)
    before = mean(fault_s - BEFORE_S, fault_s - deadline_s)
    return replace(
        verdict,
        before=before,
        first=mean(return_s, return_s + within_s),
        after=mean(return_s + within_s, return_s + within_s + WINDOW_S),
        recovered_s=_recovered_s(mean, before, return_s),
    )


def violations(events: Sequence[Event], summary: Mapping[str, Any]) -> list[str]:
    """Return what breaks the account in a complete log, compared with the agent's own summary."""
    frames = [event for event in events if isinstance(event, FrameEvent)]
    found = _repeated(frames)
    if not events or not isinstance(events[0], RunEvent):
        found.append("the log does not begin with the run")
    end = events[-1] if events else None
    if not isinstance(end, EndEvent):
        return [*found, "the log does not end with the run's end"]
    logged = Counter(event.outcome for event in frames)
    if sorted(event.frame for event in frames) != list(range(end.captured)):
        found.append(f"{len(frames)} frames ended of {end.captured} captured")
    if logged != Counter(end.outcomes):
        found.append(f"the log counts {dict(logged)}, its end {end.outcomes}")
    if sum(end.outcomes.values()) != end.captured:
        found.append(f"outcomes add up to {sum(end.outcomes.values())}, captured are {end.captured}")
    if (summary["captured"], Counter(summary["outcomes"])) != (end.captured, Counter(end.outcomes)):
        found.append(f"the summary says {summary['captured']}: {summary['outcomes']}, the log {end}")
    return found


def violations_of_torn(events: Sequence[Event], summary: Mapping[str, Any]) -> list[str]:
    """Return what breaks the account where the log could not be written to its end."""
    frames = [event for event in events if isinstance(event, FrameEvent)]
    found = _repeated(frames)
    captured, total = summary["captured"], sum(summary["outcomes"].values())
    if total != captured:
        found.append(f"outcomes add up to {total}, captured are {captured}")
    # Besides the frames only the link's second and the end can be among the events that were lost.
    if captured - len(frames) > summary["events_lost"]:
        found.append(
            f"{captured - len(frames)} frames are missing, {summary['events_lost']} events were lost"
        )
    logged = Counter(event.outcome for event in frames)
    if any(count > summary["outcomes"].get(kind, 0) for kind, count in logged.items()):
        found.append(f"the log counts {dict(logged)}, the summary {summary['outcomes']}")
    return found


def _repeated(frames: Sequence[FrameEvent]) -> list[str]:
    counts = Counter(event.frame for event in frames)
    return [f"frame {frame} ended {count} times" for frame, count in counts.items() if count > 1]


def worth(event: FrameEvent, points: PointTable) -> float:
    """Return the measured accuracy of what answered a frame in time; 0 if nothing did."""
    if event.outcome == "remote" and event.point is not None:
        return points.record(event.point).utility
    if event.outcome == "exit" and event.point is not None:
        return next(one.utility for one in points.exits if one.width_index == event.point.width_index)
    if event.outcome == "local" and points.local is not None:
        return points.local.utility
    return 0.0


def _mean_utility(frames: Sequence[FrameEvent], points: PointTable) -> Callable[[float, float], float]:
    """Return a function of (from, until): the mean over the frames captured then; NaN without any."""
    known = sorted((event.captured_s, worth(event, points)) for event in frames)

    def mean(from_s: float, until_s: float) -> float:
        values = [value for captured_s, value in known if from_s <= captured_s < until_s]
        return fmean(values) if values else math.nan

    return mean


def _recovered_s(mean: Callable[[float, float], float], before: float, return_s: float) -> float:
    for step in range(round(100 * (WITHIN_S + WINDOW_S - _MOVING_S)) + 1):
        if mean(return_s + step / 100, return_s + step / 100 + _MOVING_S) >= TARGET * before:
            return step / 100
    return math.inf
