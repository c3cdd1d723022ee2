"""The guard: answers a frame on the device when the server's answer would be too late or will not come.

Decides when that moment is. Its answers are computed on a thread of their own, so that they never wait behind
a head. Lives on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.crew import Crew
from isthmus.device_agents.device import Device
from isthmus.runtime.control import Fallback
from isthmus.runtime.events import FrameEvent
from isthmus.runtime.session import Session
from isthmus.runtime.session.timing import RecentMaximum

# A timer fires up to a millisecond late, and an answer must be there before the deadline, not at it.
_MARGIN_S = 2e-3
# No single surprise may widen the margin by more than this share of the deadline.
_LARGEST_SLACK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standby:
    """What the device needs to answer a frame itself.

    Attributes:
        image_hwc: The image.
        latent_chw: Its latent, all channels.
        fallback: Which answer; None: the bundle has none.
        fallback_s: Seconds it takes.
        timed: Whether to give it when the deadline draws near; otherwise only when it is certain that the
            server will not answer.
    """

    image_hwc: NDArray[np.uint8]
    latent_chw: NDArray[np.uint8]
    fallback: Fallback | None
    fallback_s: float
    timed: bool = True


class OnEnd(Protocol):
    """Takes the end of a frame, and the server's scores if it was the server that answered."""

    def __call__(self, event: FrameEvent, scores_c: NDArray[np.float32] | None = None) -> None:
        """Take the end; `scores_c` is float32 [classes], not normalised."""
        ...


class Guard:
    """Watches over the frames that wait for the server.

    Args:
        session: Accounts for them.
        device: Computes the answers.
        crew: Runs the tasks.
        on_end: Takes the end of every frame watched.
    """

    def __init__(self, *, session: Session, device: Device, crew: Crew, on_end: OnEnd) -> None:
        self._session = session
        self._device = device
        self._crew = crew
        self._on_end = on_end
        self._watched: dict[int, tuple[Standby, float]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guard")
        self._slack = RecentMaximum(_MARGIN_S)
        self._timer: asyncio.TimerHandle | None = None

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
        if self._session.recall(frame, reason, now_s=time.monotonic()):
            self._answer(frame)

    def end(self, event: FrameEvent | None, scores_c: NDArray[np.float32] | None = None) -> None:
        """Pass on the end of a frame that was watched; None (it had ended before) is passed over."""
        if event is not None:
            self._watched.pop(event.frame, None)
            self._on_end(event, scores_c)

    def close(self) -> None:
        """End the timer and the thread; frames still open are the session's to end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _answer(self, frame: int) -> None:
        standby, due_s = self._watched[frame]
        now_s = time.monotonic()
        if standby.fallback is None:
            self.end(self._session.drop(frame, now_s, "the device has no answer"))
        else:
            # A timer that fired late is part of what the next margin must allow for.
            self._crew.start(self._compute(frame, standby, standby.fallback, min(now_s, due_s)))

    async def _compute(self, frame: int, standby: Standby, kind: Fallback, asked_s: float) -> None:
        answer, compute_s = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._device.answer, kind, standby.image_hwc, standby.latent_chw
        )
        now_s = time.monotonic()
        self._slack.add(now_s - asked_s - compute_s)
        self.end(self._session.device(frame, now_s, kind, answer))

    def _on_timer(self) -> None:
        self._timer = None
        answer, given_up = self._session.due(time.monotonic())
        for event in given_up:
            self.end(event)
        for frame in answer:
            self._answer(frame)
        self._arm()

    def _arm(self) -> None:
        due_s = self._session.next_due_s()
        if self._timer is not None:
            # A timer that fires too early finds nothing due and is set again: cheaper than moving it often.
            if due_s is None or self._timer.when() <= due_s:
                return
            self._timer.cancel()
            self._timer = None
        if due_s is not None:
            self._timer = asyncio.get_running_loop().call_at(due_s, self._on_timer)
