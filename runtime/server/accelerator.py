"""One device that the tails of several bundles share: a thread that computes, one batch at a time.

Decides who computes next (see `turns`) and where: in the thread, or, where the batch is expected to take less
than the way to the thread and back, right on the event loop. The thread takes its next batch by itself, so
that the device does not idle while the event loop is busy with messages.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from typing import Any, Protocol

from isthmus.runtime.server.turns import Turns

log = logging.getLogger("isthmus.server")

# What two hand-offs between threads cost; work shorter than that is done where it is.
HAND_OFF_S = 100e-6


class Lane(Protocol):
    """One contender for the device; what `take` gives goes through `compute` and `deliver`."""

    def waits(self) -> bool:
        """Say whether there is anything to take. Called with the lock held."""
        ...

    def expected_s(self) -> float:
        """Return how long the next batch is expected to take. Called with the lock held."""
        ...

    def take(self) -> Any:
        """Return the next work. Called with the lock held, and only if `waits`."""
        ...

    def compute(self, work: Any) -> float:
        """Compute `work` and return the seconds it took; raises nothing. Called without the lock."""
        ...

    def deliver(self, work: Any) -> None:
        """Hand out the results of `work`. Called on the event loop, without the lock."""
        ...


class Accelerator:
    """A device.

    Attributes:
        lock: Guards the lanes' queues.
    """

    def __init__(
        self, *, hand_off_s: float = HAND_OFF_S, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Make an idle device.

        Args:
            hand_off_s: Batches expected to take no longer than this run on the event loop.
            loop: Where it delivers; None: the event loop that runs now.
        """
        self.lock = threading.Lock()
        self._work_waits = threading.Condition(self.lock)
        self._hand_off_s = hand_off_s
        self._turns: Turns[Lane] = Turns()
        self._lanes: set[Lane] = set()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._computed: deque[tuple[Lane, Any]] = deque()

    def attach(self, lane: Lane) -> None:
        """Let `lane` contend."""
        with self.lock:
            self._lanes.add(lane)
            self._turns.join(lane)

    def detach(self, lane: Lane) -> None:
        """Let `lane` contend no more; work of it that runs is still delivered."""
        with self.lock:
            if lane in self._lanes:
                self._lanes.remove(lane)
                self._turns.leave(lane)

    def start(self, *, on_loop: bool) -> None:
        """Look for work: a lane has just got some. `on_loop`: the caller is on the event loop."""
        with self.lock:
            # While it is busy, whoever computes looks again when that is done.
            if self._busy or (lane := self._turns.next(_waits)) is None:
                return
            if not on_loop or lane.expected_s() > self._hand_off_s:
                self._wake_thread()
                return
            work = lane.take()
            self._busy = True
        taken_s = lane.compute(work)
        with self.lock:
            self._done(lane, taken_s)
            if self._turns.next(_waits) is not None:
                self._wake_thread()
        lane.deliver(work)

    def is_idle(self) -> bool:
        """Say whether nothing computes; only a hint, for it may change at any time."""
        return not self._busy

    def claim(self, expected_s: float) -> bool:
        """Take the idle device for work of `expected_s` on the event loop; `release` it right after.

        Returns:
            False if it is busy, the work is longer than a hand-off, or somebody waits.
        """
        if expected_s > self._hand_off_s:
            return False
        with self.lock:
            if self._busy or self._anybody_waits():
                return False
            self._busy = True
            return True

    def release(self, lane: Lane, taken_s: float) -> None:
        """Give back the device that was claimed, after `lane` used it."""
        with self.lock:
            self._done(lane, taken_s)
            if self._anybody_waits():
                self._wake_thread()

    def close(self) -> None:
        """End the thread once its batch is done."""
        with self.lock:
            self._closed = True
            self._work_waits.notify()

    def _anybody_waits(self) -> bool:
        for lane in self._lanes:  # noqa: SIM110, a generator takes longer than the whole loop
            if lane.waits():
                return True
        return False

    def _wake_thread(self) -> None:
        if self._thread is None and not self._closed:
            thread = threading.Thread(target=self._serve, name="tail", daemon=True)
            thread.start()  # may fail for want of memory, and is tried again then
            self._thread = thread
        self._work_waits.notify()

    def _serve(self) -> None:
        try:
            self._compute_on()
        except BaseException:  # no memory, most likely
            # Without this thread frames would wait for ever; another process serves them better.
            log.critical("the thread that computes cannot go on, and the server ends", exc_info=True)
            _end_process()

    def _compute_on(self) -> None:
        while True:
            with self.lock:
                while self._busy or (lane := self._turns.next(_waits)) is None:
                    if self._closed:
                        return
                    self._work_waits.wait()
                work = lane.take()
                self._busy = True
            taken_s = lane.compute(work)
            with self.lock:
                self._done(lane, taken_s)
            self._computed.append((lane, work))
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the event loop has ended: there is nobody left to deliver to
                return

    def _done(self, lane: Lane, taken_s: float) -> None:
        self._busy = False
        if lane in self._lanes:
            self._turns.charge(lane, taken_s)

    def _deliver(self) -> None:
        while self._computed:
            lane, work = self._computed.popleft()
            lane.deliver(work)


def _end_process() -> None:
    os._exit(1)


def _waits(lane: Lane) -> bool:
    return lane.waits()
