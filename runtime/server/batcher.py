"""Give the tail its batches.

A batch starts the moment the device is free: whoever waits then goes along, nobody waits for company. Under
load the batches grow by themselves, and an idle server answers at once. A frame that cannot be answered in
its budget is told so without touching the device.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.errors import BackendError, BusyError, DrainingError
from isthmus.runtime.server.accelerator import HAND_OFF_S, Accelerator
from isthmus.runtime.server.backend import TailBackend
from isthmus.runtime.server.batch_plan import answered_s, batch_items
from isthmus.runtime.server.deadline_queue import DeadlineQueue
from isthmus.runtime.server.latency_model import LatencyModel
from isthmus.runtime.server.latents import assemble
from isthmus.runtime.server.load import LoadMeter
from isthmus.runtime.server.tickets import Computed, Ticket, Work, tell, tell_all

log = logging.getLogger("isthmus.server")

# Durations learned longer ago refuse nobody: else a model gone wrong would never be corrected.
_BELIEVED_S = 1.0
# The load is worked out anew no more often than this: it is a share of a whole second.
_LOAD_EVERY_S = 0.01
# Of batches that are computed at once, and in a time that surprises nobody, one in so many is learned from.
_QUICK_LEARNS = 8
# So many batches must have been seen, warm-up included, before a frame is refused by prediction.
_BELIEVED_AFTER = 8


class Batcher:
    """Queue frames for one tail and compute them batch by batch; a lane of its accelerator.

    Attributes:
        backend: The tail.
        model: How long its batches take.
    """

    def __init__(
        self,
        backend: TailBackend,
        spec: LatentSpec,
        accelerator: Accelerator,
        *,
        queue_frames: int,
        clock: Callable[[], float] = time.monotonic,
        on_batch: Callable[[int, float], None] = lambda latents, compute_s: None,
    ) -> None:
        """Make a batcher and let it contend for `accelerator`.

        Args:
            backend: Computes the batches.
            spec: The latents it takes.
            accelerator: The device.
            queue_frames: Most latents that wait.
            clock: Gives monotonic seconds.
            on_batch: Called on the event loop with the latents and the seconds of every batch.
        """
        self.backend = backend
        self.model = LatencyModel()
        for rows, seconds in backend.warm_up:
            self.model.observe(rows, seconds)
        self._spec = spec
        self._accelerator = accelerator
        self._clock = clock
        self._on_batch = on_batch
        self._queue: DeadlineQueue[Ticket] = DeadlineQueue(queue_frames)
        self._load = LoadMeter()
        self._load_percent = 0
        self._load_until_s = -math.inf
        self._quick = 0
        self._busy_until_s = -math.inf
        self._measured_s = -math.inf
        self._running = 0
        self._idle: asyncio.Event = asyncio.Event()
        self._closed = False
        accelerator.attach(self)

    @property
    def load_percent(self) -> int:
        """Share of the last second in which the tail computed."""
        now_s = self._clock()
        if now_s >= self._load_until_s:
            self._load_percent, self._load_until_s = self._load.percent(now_s), now_s + _LOAD_EVERY_S
        return self._load_percent

    @property
    def queued(self) -> int:
        """Latents that wait, those being decoded included."""
        return self._queue.held_rows

    def admit(self, rows: int, *, deadline_s: float | None) -> bool:
        """Hold `rows` places in the queue, before any work is spent on the frame.

        Returns:
            Whether places are held; False: the frame cannot be answered by `deadline_s` (on the clock).

        Raises:
            BusyError: If there is no room; nothing is held then.
        """
        with self._accelerator.lock:
            if deadline_s is not None and self._expected_end_s(rows, deadline_s) > deadline_s:
                return False
            if self._queue.admit(rows):
                return True
            expired = self._queue.expire(self._clock())
            held = self._queue.admit(rows)
            waiting = self._queue.held_rows
        tell_all(expired, None)
        if not held:
            raise BusyError(
                f"the queue is full: {waiting} of {self._queue.capacity_rows} latents wait; "
                "send fewer or try another server"
            )
        return True

    def release(self, rows: int) -> None:
        """Give back places that `admit` held for a frame that will not be submitted."""
        with self._accelerator.lock:
            self._queue.release(rows)

    def is_quick(self, rows: int) -> bool:
        """Say whether `compute_now` is likely to take `rows` latents, which then need not be admitted."""
        return not self._queue.held_rows and self._accelerator.is_idle() and self._now_s(rows) <= HAND_OFF_S

    def compute_now(self, latents: Sequence[NDArray[np.uint8]]) -> Computed | None:
        """Compute `latents` at once, on the event loop, if that is shorter than a hand-off to the thread.

        Returns:
            The result; None if the device is not idle or the batch would take longer: submit it.

        Raises:
            BackendError: If the tail failed on it.
        """
        rows = len(latents)
        if self._closed or not self._accelerator.claim(self._now_s(rows)):
            return None
        work = Work((), (), rows)
        self._quick += 1
        try:
            self._run(work, latents, learns=self._quick % _QUICK_LEARNS == 0)
        finally:
            self._accelerator.release(self, work.compute_s)
        if work.fault is not None:
            raise work.fault
        self._load.add(work.started_s, work.started_s + work.compute_s)
        self._on_batch(rows, work.compute_s)
        assert work.outputs_nc is not None
        return Computed(work.outputs_nc, work.started_s, work.compute_s)

    def _now_s(self, rows: int) -> float:
        """Return how long `rows` latents alone are expected to take; unknown durations are long ones."""
        return self.model.predict_s(rows) if self.model.observed else math.inf

    def submit(self, ticket: Ticket, *, deadline_s: float | None, on_loop: bool = True) -> bool:
        """Have `ticket`, whose places were admitted, computed; from any thread if not `on_loop`.

        Its `done` is called on the event loop, perhaps before this returns.

        Returns:
            False if the batcher was closed; the ticket is not told then.
        """
        rows = len(ticket.latents)
        with self._accelerator.lock:
            if self._closed or ticket.done is None:
                self._queue.release(rows)
                return not self._closed
            ticket.place = self._queue.push(ticket, rows=rows, deadline_s=deadline_s)
        self._accelerator.start(on_loop=on_loop)
        return True

    def cancel(self, ticket: Ticket) -> None:
        """Forget `ticket`: if it waits, its place goes to another; nobody is told its result."""
        with self._accelerator.lock:
            ticket.done = None
            if ticket.place is not None:
                self._queue.remove(ticket.place)

    async def close(self) -> None:
        """Refuse the frames that wait, and let the running batch, which nothing can interrupt, end."""
        with self._accelerator.lock:
            self._closed = True
            waiting = self._queue.take(self._queue.capacity_rows)
        self._accelerator.detach(self)
        tell_all(waiting, DrainingError("the server stopped before the frame was computed"))
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    # What the accelerator calls.

    def waits(self) -> bool:
        """See `Lane.waits`."""
        return len(self._queue) > 0

    def expected_s(self) -> float:
        """See `Lane.expected_s`; unknown durations are long ones."""
        if not self.model.observed:
            return math.inf
        return self.model.predict_s(min(self._queue.held_rows, self.backend.max_batch))

    def take(self) -> Work:
        """See `Lane.take`: the next batch, and those whom no batch can answer in time."""
        now_s = self._clock()
        believed = self._believed(now_s)
        expired = self._queue.expire(now_s + (self.model.predict_s(1) if believed else 0.0))
        max_rows = self.backend.max_batch
        first_s = self._queue.first_deadline_s
        if believed and first_s < now_s + self.model.predict_s(min(max_rows, self._queue.held_rows)):
            places = [(place.deadline_s, place.rows) for place in self._queue.peek(max_rows)]
            items = batch_items(places, now_s=now_s, model=self.model)
            max_rows = sum(rows for _, rows in places[:items])
        frames = self._queue.take(max_rows)
        rows = sum(len(frame.latents) for frame in frames)
        if rows:
            self._busy_until_s = now_s + self.model.predict_s(rows)
        self._running += 1
        return Work(frames, expired, rows)

    def compute(self, work: Work) -> float:
        """See `Lane.compute`."""
        if work.rows:
            self._run(work, [latent for frame in work.frames for latent in frame.latents])
        return work.compute_s

    def _run(self, work: Work, latents: Sequence[NDArray[np.uint8]], *, learns: bool = True) -> None:
        work.started_s = started_s = self._clock()
        try:
            work.outputs_nc = self.backend.run(assemble(latents, self._spec))
        except BackendError as error:
            work.fault = error
        except Exception:  # our bug, or a backend's: the frames must be answered all the same
            log.exception("a batch of %d latents", work.rows)
            work.fault = BackendError("internal error; see the server's log")
        ended_s = self._clock()
        work.compute_s = ended_s - started_s
        if work.fault is None:
            if learns or work.compute_s > 2.0 * self.model.predict_s(work.rows):
                self.model.observe(work.rows, work.compute_s)
            self._measured_s = ended_s
        self._busy_until_s = -math.inf

    def deliver(self, work: Work) -> None:
        """See `Lane.deliver`."""
        self._running -= 1
        if not self._running:
            self._idle.set()
        tell_all(work.expired, None)
        if work.outputs_nc is not None:
            self._load.add(work.started_s, work.started_s + work.compute_s)
            self._on_batch(work.rows, work.compute_s)
            self._hand_out(work, work.outputs_nc)
        elif work.fault is not None:
            log.error("a batch of %d frames failed: %s", len(work.frames), work.fault)
            tell_all(work.frames, work.fault)

    def _hand_out(self, work: Work, outputs_nc: NDArray[np.float32]) -> None:
        row = 0
        for frame in work.frames:
            rows = len(frame.latents)
            if frame.done is not None:
                result = Computed(outputs_nc[row : row + rows], work.started_s, work.compute_s)
                tell(frame, result)
            row += rows

    def _believed(self, now_s: float) -> bool:
        return self.model.observed >= _BELIEVED_AFTER and now_s - self._measured_s < _BELIEVED_S

    def _expected_end_s(self, rows: int, deadline_s: float) -> float:
        now_s = self._clock()
        if not self._believed(now_s):
            return -math.inf

        def end_s(rows_before: int) -> float:
            return answered_s(
                rows=rows,
                rows_before=rows_before,
                busy_until_s=self._busy_until_s,
                now_s=now_s,
                max_batch=self.backend.max_batch,
                model=self.model,
            )

        # Behind everybody is soon computed; who is really before it, only when that would be too late.
        latest_s = end_s(self._queue.held_rows)
        return latest_s if latest_s <= deadline_s else end_s(self._queue.rows_before(deadline_s))
