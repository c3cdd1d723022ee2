"""Everything a report knows of one run, and the short names of its parts. Facts; draws no conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.report.connectivity import Interval
from isthmus.report.frames import Frames
from isthmus.report.links import Links, Shapes
from isthmus.report.side_files import PlanChoice
from isthmus.report.tally import FrameTally
from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.events import OUTCOMES, DeadlineEvent, EndEvent, RunEvent
from isthmus.runtime.links import RateTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineChange:
    """Frames captured from `at_s` on, seconds since the start of the run, have another deadline.

    Attributes:
        at_s: When.
        before_s, deadline_s: The deadline until then, and from then on.
    """

    at_s: float
    before_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """Everything a report knows of one run.

    Attributes:
        name: What the report calls the run: the folder's or the file's name.
        folder: Where the report goes unless told otherwise.
        run: The first event; None if the log has lost it.
        tally: The frames, added up.
        points: Operating points by the tally's index; the first is None.
        reasons, examples: The policy's reasons by the tally's index, and one in full for each.
        kept: Frames one by one, in order of capture: all of a short run, those of `windows_s` of a long one.
        windows_s: Stretches [from, until) of the run whose frames were kept, monotonic seconds.
        complete: Every frame was kept.
        links: The agent's beliefs, once a second.
        shapes: The true rates of the emulated link; empty for a real link.
        deadlines: Changes of the deadline.
        gaps: Outages and disconnections in time order.
        trace: Rates that the user says the link had from the first instant of the run on; None: as logged.
        end: The last event; None if the agent was killed or still runs.
        torn: The log ends in the middle of a line.
        start_s, end_s: The run's bounds on the monotonic axis.
        table: The measured table of the bundle, if the bundle was found.
        widths: Compute fractions, from the run event or the bundle; empty if neither is there.
        plan: The partitioner's choice, if the folder has a plan.json.
        timings_s: Seconds by stage (train, export …), if the folder has a timings.json.
        notes: What could not be used, one sentence each.
    """

    name: str
    folder: Path
    run: RunEvent | None
    tally: FrameTally
    points: tuple[OperatingPoint | None, ...]
    reasons: tuple[str, ...]
    examples: tuple[str, ...]
    kept: Frames
    windows_s: tuple[tuple[float, float], ...]
    complete: bool
    links: Links
    shapes: Shapes
    deadlines: tuple[DeadlineEvent, ...] = ()
    gaps: tuple[Interval, ...] = ()
    trace: RateTrace | None = None
    end: EndEvent | None = None
    torn: bool = False
    start_s: float = 0.0
    end_s: float = 0.0
    table: PointTable | None = None
    widths: tuple[float, ...] = ()
    plan: PlanChoice | None = None
    timings_s: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the run to its end."""
        return self.end_s - self.start_s

    def used_points(self) -> list[tuple[int, OperatingPoint]]:
        """Return (index, point) of the operating points that occur, by width, then channels."""
        used = [(index, point) for index, point in enumerate(self.points) if point is not None]
        return sorted(used, key=lambda pair: pair[1])

    def points_by_size(self) -> list[tuple[int, OperatingPoint]]:
        """Return the points that occur, smallest payload first: as the bundle measured it, else as sent."""
        measured = {record.point: record.bytes_mean for record in self.table.records} if self.table else {}
        sums = self.tally.sums

        def size(pair: tuple[int, OperatingPoint]) -> tuple[float, OperatingPoint]:
            index, point = pair
            if point in measured:
                return measured[point], point
            sent = float(sums["sent"][index].sum())
            return (float(sums["payload_bytes"][index].sum()) / sent if sent else 0.0), point

        return sorted(self.used_points(), key=size)

    def outcome_counts(self) -> dict[str, int]:
        """Return how many frames ended in each outcome."""
        counts = self.tally.sums["frames"].sum(axis=0)
        return {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)}

    def deadline_steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return from which instants on which deadlines hold, seconds; empty if the log has lost them."""
        if self.run is None:
            return np.zeros(0), np.zeros(0)
        changes = sorted(self.deadlines, key=lambda event: event.at_s)
        at_s = [self.start_s, *(event.at_s for event in changes)]
        return np.array(at_s), np.array([self.run.deadline_s, *(event.deadline_s for event in changes)])

    def deadline_changes(self) -> tuple[DeadlineChange, ...]:
        """Return when the deadline became another one; setting it to what it is changes nothing."""
        if self.run is None:
            return ()
        at_s, deadlines_s = self.deadline_steps()
        steps = zip(at_s[1:], deadlines_s[:-1], deadlines_s[1:], strict=True)
        return tuple(
            DeadlineChange(at_s=float(at - self.start_s), before_s=float(before), deadline_s=float(after))
            for at, before, after in steps
            if before != after
        )

    def deadline_at(self, captured_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the deadline of frames captured at these instants; the run must have its first event."""
        at_s, deadlines_s = self.deadline_steps()
        return np.asarray(deadlines_s[np.maximum(np.searchsorted(at_s, captured_s, side="right") - 1, 0)])


def bounds_of(values_s: Sequence[float | None]) -> tuple[float, float]:
    """Return the least and the greatest of the instants that are known."""
    known = [value for value in values_s if value is not None]
    return min(known), max(known)
