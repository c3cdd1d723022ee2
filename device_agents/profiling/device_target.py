"""Frames that this device answers, or only encodes, by itself: no session, no guard, no server.

One worker thread computes one frame after the other, as the agent's does; a frame that has to wait for the
ones before it says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.device import Device, Encoded
from isthmus.device_agents.pipeline import INLINE_S
from isthmus.device_agents.profiling.sample import Sample
from isthmus.device_agents.profiling.ways import Way, WayKind
from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import Action, Decision
from isthmus.runtime.events import FrameEvent, Outcome

# Takes the number of a frame and computes it.
Compute = Callable[[int], "Work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What computing a frame gave.

    Attributes:
        outcome: `exit`, `local`, or, where nobody answered because that was not asked, `dropped`.
        point: What was computed, if it was an operating point.
        payload_bytes: Of the payload; 0: there is none.
        head_s, encode_s, answer_s: Seconds of the parts that happened.
    """

    outcome: Outcome
    point: OperatingPoint | None = None
    payload_bytes: int = 0
    head_s: float | None = None
    encode_s: float | None = None
    answer_s: float | None = None

    @property
    def compute_s(self) -> float:
        """Seconds of all its parts."""
        return (self.head_s or 0.0) + (self.encode_s or 0.0) + (self.answer_s or 0.0)


class DeviceTarget:
    """Answers frames on this device; a context manager that ends its thread."""

    def __init__(self, compute: Compute, expected_s: Callable[[], float]) -> None:
        """Take what computes a frame, and how long that is going to take.

        As in the agent, what is shorter than a hand-over runs where it is, the rest on a thread.
        """
        self._compute = compute
        self._expected_s = expected_s
        self._numbers = count()
        self._unanswered = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="head")

    def __enter__(self) -> DeviceTarget:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def ask(self, due_s: float) -> asyncio.Future[Sample]:
        """See `Target`."""
        frame, captured_s = next(self._numbers), time.monotonic()
        if self._unanswered or self._expected_s() > INLINE_S:
            return asyncio.ensure_future(self._on_thread(frame, captured_s, due_s))
        future: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        work = self._compute(frame)
        future.set_result(_sample(frame, work, captured_s, captured_s, due_s))
        return future

    async def _on_thread(self, frame: int, captured_s: float, due_s: float) -> Sample:
        idle = self._unanswered == 0
        self._unanswered += 1
        loop = asyncio.get_running_loop()
        try:
            began_s, work = await loop.run_in_executor(self._thread, self._timed, frame)
        finally:
            self._unanswered -= 1
        # A thread that computes takes the next frame by itself: then it is waiting, not handing over.
        return _sample(frame, work, captured_s, captured_s if idle else began_s, due_s)

    def _timed(self, frame: int) -> tuple[float, Work]:
        return time.monotonic(), self._compute(frame)


def _sample(frame: int, work: Work, captured_s: float, began_s: float, due_s: float) -> Sample:
    now_s = time.monotonic()
    event = FrameEvent(
        at_s=now_s,
        frame=frame,
        captured_s=captured_s,
        outcome=work.outcome,
        point=work.point,
        payload_bytes=work.payload_bytes,
        wait_s=began_s - captured_s,
        handover_s=max(0.0, now_s - began_s - work.compute_s),
        head_s=work.head_s,
        encode_s=work.encode_s,
        answer_s=work.answer_s,
        latency_s=None if work.outcome == "dropped" else now_s - captured_s,
    )
    return Sample(event=event, due_s=due_s, as_asked=True)


def way_target(way: Way, device: Device, images_nhwc: NDArray[np.uint8]) -> DeviceTarget:
    """Return the target of `way`, one of the kinds `payload`, `exit` and `uncut`.

    Args:
        way: The way.
        device: The bundle's sessions.
        images_nhwc: uint8 images of the bundle's input, taken in turn.
    """
    actions: dict[WayKind, Action] = {"payload": "send", "exit": "exit", "uncut": "local"}
    point = way.point
    if way.kind == "exit":
        assert way.width_index is not None
        point = OperatingPoint(width_index=way.width_index, channels=1)  # an exit takes all channels
    decision = Decision(
        action=actions[way.kind], point=point, probe=False, expected_utility=0.0, reason="profiled"
    )

    def compute(frame: int) -> Work:
        result = device.compute(decision, images_nhwc[frame % len(images_nhwc)], True)
        if isinstance(result, Encoded):
            return Work(
                outcome="dropped",
                point=point,
                payload_bytes=result.nbytes,
                head_s=result.head_s,
                encode_s=result.encode_s,
            )
        return Work(outcome=result.kind, head_s=result.head_s, answer_s=result.answer_s)

    return DeviceTarget(compute, lambda: device.seconds_of(decision))
