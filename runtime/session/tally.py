"""What a run amounts to, from the ends of its frames.

Memory stays bounded however long the run is. Accuracy counts answers that came in time and whose truth is
known: a late answer is worth nothing, and a source without labels has no accuracy.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import OUTCOMES, FrameEvent, Outcome
from isthmus.runtime.session.quantiles import Quantiles

_IN_TIME: tuple[Outcome, ...] = ("remote", "exit", "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointUse:
    """An operating point and the number of frames sent with it."""

    width_index: int
    channels: int
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in one object.

    Attributes:
        captured: Frames captured.
        outcomes: Frames per outcome; they add up to `captured`.
        accuracy: Share of right answers among those in time whose truth is known; None without any.
        accuracy_by_outcome: The same for `remote`, `exit` and `local` apart.
        latency_p50_s, latency_p90_s, latency_p99_s: From capture to answer, over all answered frames, late
            ones too.
        mean_payload_bytes: Over the frames that were sent; None if none was.
        sent: Frames that left the device, whoever answered them in the end.
        points: The points they were sent with, most used first.
    """

    captured: int
    outcomes: dict[Outcome, int]
    accuracy: float | None
    accuracy_by_outcome: dict[Outcome, float]
    latency_p50_s: float | None
    latency_p90_s: float | None
    latency_p99_s: float | None
    mean_payload_bytes: float | None
    sent: int
    points: tuple[PointUse, ...]


class Tally:
    """Adds up the ends of frames."""

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self.latency = Quantiles()
        self._judged: Counter[Outcome] = Counter()
        self._right: Counter[Outcome] = Counter()
        self._points: Counter[OperatingPoint] = Counter()
        self._sent = 0
        self._payload_bytes = 0

    def add(self, event: FrameEvent) -> None:
        """Count the end of one frame."""
        self.outcomes[event.outcome] += 1
        if event.latency_s is not None:
            self.latency.add(event.latency_s)
        if event.outcome in _IN_TIME and event.truth is not None:
            self._judged[event.outcome] += 1
            self._right[event.outcome] += event.answer == event.truth
        if event.payload_bytes and event.point is not None:
            self._sent += 1
            self._payload_bytes += event.payload_bytes
            self._points[event.point] += 1

    def summary(self) -> RunSummary:
        """Return what was counted so far."""
        judged = sum(self._judged.values())
        return RunSummary(
            captured=sum(self.outcomes.values()),
            outcomes=dict(self.outcomes),
            accuracy=sum(self._right.values()) / judged if judged else None,
            accuracy_by_outcome={
                kind: self._right[kind] / self._judged[kind] for kind in _IN_TIME if self._judged[kind]
            },
            latency_p50_s=self.latency.at(0.5),
            latency_p90_s=self.latency.at(0.9),
            latency_p99_s=self.latency.at(0.99),
            mean_payload_bytes=self._payload_bytes / self._sent if self._sent else None,
            sent=self._sent,
            points=tuple(
                PointUse(width_index=point.width_index, channels=point.channels, frames=count)
                for point, count in self._points.most_common()
            ),
        )
