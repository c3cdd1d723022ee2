"""From a captured frame to its payload, or to the device's own answer: one frame at a time.

Decides where computing happens. A head that takes no longer than handing it to a thread and back runs where
it is; any other runs on a worker thread, so that the event loop always answers. The choices are the policy's,
the account is the session's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.device import Device, Encoded, OwnAnswer
from isthmus.device_agents.guard import Guard, OnEnd, Standby
from isthmus.device_agents.uplink.flight import Flight
from isthmus.runtime.control import Decision, Policy
from isthmus.runtime.events import FrameEvent
from isthmus.runtime.session import Session

# Waking a thread and being woken by it costs about 0.2 ms, more where the processor sleeps between frames;
# the loop, and with it every answer and guard, waits for what runs on it.
INLINE_S = 1e-3
# A device's answer within this share of the deadline is given whatever the policy says.
_NEXT_TO_NOTHING = 0.02
# A link that has carried nothing for so long is sent a frame although the device is sure of its answer.
_UNHEARD_S = 1.0

Result = Encoded | OwnAnswer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    frame: int
    image_hwc: NDArray[np.uint8]
    decision: Decision
    began_s: float


class Pipeline:
    """Computes the frames of one session. Lives on the event loop's thread.

    Args:
        session: Accounts for them.
        device: Computes.
        flight: Sends.
        guard: Answers what the server does not.
        send: Queues a frame on the uplink.
        policy: Chooses; may be replaced at any time.
        exit_confidence: The early exit answers at once when it is at least so sure; None: never.
        interval_s: Seconds from capture to capture; None: there is no clock.
        on_end: Takes the end of every frame that ends here.
        on_failed: Takes what a worker thread raised.
    """

    def __init__(
        self,
        *,
        session: Session,
        device: Device,
        flight: Flight,
        guard: Guard,
        send: Callable[[int], None],
        policy: Policy,
        exit_confidence: float | None,
        interval_s: float | None,
        on_end: OnEnd,
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.policy = policy
        self._session = session
        self._device = device
        self._flight = flight
        self._guard = guard
        self._send = send
        self._exit_confidence = exit_confidence if device.can_exit else None
        self._interval_s = interval_s
        self._on_end = on_end
        self._on_failed = on_failed
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="head")
        self._since_s: float | None = None
        self._prepared: tuple[int, Decision] | None = None

    @property
    def next_frame(self) -> int:
        """The number of the frame that is captured next."""
        return self._session.captured

    def prepare(self, due_s: float) -> None:
        """Decide about the frame that is going to be captured at `due_s`, while there is nothing else to do.

        A choice needs the link, the device and the time, not the image; made now it costs the frame nothing.
        """
        if self._since_s is None:
            self._prepared = self.next_frame, self.decide(due_s + self._session.deadline_s)

    def capture(self, image_hwc: NDArray[np.uint8], captured_s: float, truth: int | None) -> int:
        """Take a frame captured at `captured_s` and return its number; `advance` computes it."""
        frame, superseded = self._session.capture(captured_s, truth=truth)
        self._images[frame] = image_hwc
        if superseded is not None:
            del self._images[superseded.frame]
            self._on_end(superseded)
        return frame

    def reconsider(self) -> None:
        """Drop the choice that was made for the next frame: what it was made for does not hold any more."""
        self._prepared = None

    def advance(self) -> None:
        """Compute the frames that wait, as far as that is possible at once."""
        while self._since_s is None and (frame := self._session.take()) is not None:
            self._begin(frame, self._images.pop(frame))

    def computing_s(self, now_s: float) -> float:
        """Return for how many seconds the worker thread has been at the frame it is at."""
        return 0.0 if self._since_s is None else now_s - self._since_s

    def close(self) -> None:
        """Wait for the worker; frames still open are the session's to end."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._images.clear()

    def decide(self, due_s: float) -> Decision:
        """Return the policy's choice for a frame that must be answered by `due_s` and is computed next."""
        now_s = time.monotonic()
        return self.policy.decide(
            self._flight.estimate(now_s),
            self._device.state(
                server_s=self._flight.server_s,
                server_load=self._flight.server_load,
                interval_s=self._interval_s,
            ),
            budget_s=due_s - now_s - self._guard.margin_s,
            now_s=now_s,
        )

    def _begin(self, frame: int, image_hwc: NDArray[np.uint8]) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] == frame:
            decision = prepared[1]
        else:
            decision = self.decide(self._session.deadline_of(frame))
        if decision.action == "drop":
            self._end(self._session.drop(frame, time.monotonic(), decision.reason))
            return
        confidence = self._exit_confidence if decision.action == "send" else None
        if confidence is not None and (reason := self._unheard(decision)) is not None:
            decision, confidence = replace(decision, probe=True, reason=reason), None
        self._session.decided(frame, point=decision.point, probe=decision.probe, reason=decision.reason)
        compute = partial(
            self._device.compute, decision, image_hwc, self._flight.as_payload, confidence=confidence
        )
        inline = self._device.seconds_of(decision) <= INLINE_S
        began_s = time.monotonic()
        self._session.began(frame, began_s)
        work = _Work(frame=frame, image_hwc=image_hwc, decision=decision, began_s=began_s)
        if inline:
            self._finish(work, compute())
        else:
            self._since_s = began_s
            self._thread.submit(compute).add_done_callback(partial(self._on_thread, work))

    def _unheard(self, decision: Decision) -> str | None:
        """Return why this frame goes out however sure the device is; None if it need not.

        An agent that answers everything itself would know nothing of its link when it needs it.
        """
        if decision.probe:
            return decision.reason
        idle_s = self._flight.estimate(time.monotonic()).idle_s
        if idle_s is not None and idle_s < _UNHEARD_S:
            return None
        return f"{decision.reason}; sent to keep the link known"

    def _on_thread(self, work: _Work, future: Future[Result]) -> None:
        """Hand a result over to the loop; called on the worker thread, or by `close` for what never ran."""
        if not future.cancelled():
            self._loop.call_soon_threadsafe(self._from_thread, work, future)

    def _from_thread(self, work: _Work, future: Future[Result]) -> None:
        self._since_s = None
        try:
            self._finish(work, future.result())
            self.advance()
        except Exception as error:
            self._on_failed(error)

    def _finish(self, work: _Work, result: Result) -> None:
        frame, decision = work.frame, work.decision
        now_s = time.monotonic()
        handover_s = max(0.0, now_s - work.began_s - result.compute_s)
        if isinstance(result, OwnAnswer):
            if result.confidence is not None:
                reason = f"{result.kind} is {result.confidence:.0%} sure"
                self._session.decided(frame, point=decision.point, reason=reason)
            self._session.computed(frame, head_s=result.head_s, encode_s=None, handover_s=handover_s)
            self._end(
                self._session.device(frame, now_s, result.kind, result.answer, answer_s=result.answer_s)
            )
            return
        self._session.computed(
            frame,
            head_s=result.head_s,
            encode_s=result.encode_s,
            exit_s=result.exit_s,
            handover_s=handover_s,
            now_s=now_s,
        )
        if self._guard.watch(frame, self._standby(work, result.latent_chw)):
            self._flight.launch(frame, result, send=self._send)

    def _standby(self, work: _Work, latent_chw: NDArray[np.uint8]) -> Standby:
        """Return how the device would answer: as the policy says, or else as well as it can.

        A policy may rather wait for the server than stop waiting early. But once the server is known not to
        answer any answer is better than none, and one that takes next to no time costs no waiting.
        """
        fallback, seconds, timed = work.decision.fallback, work.decision.fallback_s, True
        if fallback is None:
            fallback, seconds = self._device.quickest()
            timed = seconds <= _NEXT_TO_NOTHING * self._session.deadline_s
        return Standby(
            image_hwc=work.image_hwc,
            latent_chw=latent_chw,
            fallback=fallback,
            fallback_s=seconds,
            timed=timed,
        )

    def _end(self, event: FrameEvent | None) -> None:
        if event is not None:
            self._on_end(event)
