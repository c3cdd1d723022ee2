"""The guard on a virtual clock: answers a frame on the device when the server's answer would be too late."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import Fallback
from isthmus.runtime.events import FrameEvent
from isthmus.runtime.session import Session
from isthmus.runtime.session.timing import RecentMaximum
from isthmus.runtime.simulation.clock import VirtualClock
from isthmus.runtime.simulation.compute import SimDevice

# As the live guard's: what a timer may be late, and how far surprises may widen the margin.
_MARGIN_S = 2e-3
_LARGEST_SLACK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """How the device would answer a frame; see the live agent's."""

    point: OperatingPoint
    fallback: Fallback | None
    fallback_s: float
    timed: bool


class SimGuard:
    """Watches over the frames that wait for the server.

    Args:
        session: Accounts for them.
        device: Says what answers take.
        clock: Tells the time.
        wake: Draws the seconds between asking a thread and it running.
        answered: Ends a frame with the device's answer: (frame, kind, point).
        on_end: Takes the end of a frame that nothing answers.
    """

    def __init__(
        self,
        *,
        session: Session,
        device: SimDevice,
        clock: VirtualClock,
        wake: Callable[[], float],
        answered: Callable[[int, Fallback, OperatingPoint], None],
        on_end: Callable[[FrameEvent], None],
    ) -> None:
        self._session = session
        self._device = device
        self._clock = clock
        self._wake = wake
        self._answered = answered
        self._on_end = on_end
        self._watched: dict[int, tuple[Standby, float]] = {}
        self._slack = RecentMaximum(_MARGIN_S)
        self._free_s = -math.inf
        self._timer_s = math.inf

    @property
    def margin_s(self) -> float:
        """Seconds before its deadline by which a frame's answer must be certain."""
        return _MARGIN_S + min(self._slack.seconds, _LARGEST_SLACK * self._session.deadline_s)

    def watch(self, frame: int, standby: Standby) -> bool:
        """Watch over `frame`, which is about to be queued for the server; False if it has ended already."""
        answer_s = standby.fallback_s + self.margin_s
        timed = standby.timed and standby.fallback is not None
        if not self._session.queue(frame, answer_s=answer_s if timed else None):
            return False
        self._watched[frame] = (standby, self._session.deadline_of(frame) - answer_s)
        self._arm()
        return True

    def recall(self, frame: int, reason: str) -> None:
        """Answer `frame` now, if it still waits for the server."""
        if self._session.recall(frame, reason, now_s=self._clock.now_s):
            self._answer(frame)

    def forget(self, frame: int) -> None:
        """Watch no longer over a frame that has ended."""
        self._watched.pop(frame, None)

    def _answer(self, frame: int) -> None:
        standby, due_s = self._watched[frame]
        now_s = self._clock.now_s
        if standby.fallback is None:
            event = self._session.drop(frame, now_s, "the device has no answer")
            self.forget(frame)
            if event is not None:
                self._on_end(event)
            return
        compute_s = self._device.answer(standby.fallback)
        # One thread: an answer waits for the one before.
        self._free_s = max(self._free_s, now_s + self._wake()) + compute_s
        asked_s = min(now_s, due_s)
        self._clock.at(self._free_s, self._computed, frame, standby, self._free_s - asked_s - compute_s)

    def _computed(self, frame: int, standby: Standby, slack_s: float) -> None:
        assert standby.fallback is not None
        self._slack.add(slack_s)
        self.forget(frame)
        self._answered(frame, standby.fallback, standby.point)

    def _arm(self) -> None:
        due_s = self._session.next_due_s()
        if due_s is not None and due_s < self._timer_s:
            self._timer_s = due_s
            self._clock.at(due_s, self._on_timer, due_s)

    def _on_timer(self, set_for_s: float) -> None:
        if set_for_s != self._timer_s:
            return
        self._timer_s = math.inf
        answer, given_up = self._session.due(self._clock.now_s)
        for event in given_up:
            self.forget(event.frame)
            self._on_end(event)
        for frame in answer:
            self._answer(frame)
        self._arm()
