"""One frame that the profiler asked for, and when it should have begun."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from isthmus.runtime.events import STAGES, FrameEvent

WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A frame's end.

    Attributes:
        event: How it ended, with its stages.
        due_s: When its scenario wanted it to begin, monotonic seconds; not after its capture.
        as_asked: It was answered by whom it was meant for.
    """

    event: FrameEvent
    due_s: float
    as_asked: bool

    @property
    def latency_s(self) -> float:
        """Seconds from when it was due to its end."""
        return self.event.at_s - self.due_s

    def stages(self) -> dict[str, float]:
        """Return the seconds of the stages that happened, by the names of `STAGES`."""
        found = {}
        for stage in STAGES:
            seconds = stage.seconds(self.event)
            if seconds is not None:
                found[stage.name] = seconds
        # What the profiler was late to ask is waiting like any other.
        found[WAIT] = found.get(WAIT, 0.0) + self.event.captured_s - self.due_s
        return found


class Target(Protocol):
    """Answers frames in one way."""

    def ask(self, due_s: float) -> asyncio.Future[Sample]:
        """Begin one frame now that was due at `due_s`, and return its end to be."""
        ...
