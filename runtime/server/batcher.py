"""Give the tail its batches.

A batch starts the moment the tail is free: whoever waits then goes along, nobody waits for company. Under
load the batches grow by themselves, and an idle server answers at once. The computation runs in a thread of
its own, never on the event loop; everything else here runs on the loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import LatentSpec
from isthmus.runtime.errors import BusyError, DrainingError
from isthmus.runtime.server.backend import TailBackend
from isthmus.runtime.server.deadline_queue import DeadlineQueue
from isthmus.runtime.server.latents import assemble
from isthmus.runtime.server.load import LoadMeter

log = logging.getLogger("isthmus.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A frame's result: `outputs_nc` float32 [rows, classes], and when and how long its batch ran."""

    outputs_nc: NDArray[np.float32]
    started_s: float
    compute_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    latents: Sequence[NDArray[np.uint8]]
    result: asyncio.Future[Computed | None]


class Batcher:
    """Queue frames for one tail and compute them batch by batch."""

    def __init__(
        self,
        backend: TailBackend,
        spec: LatentSpec,
        *,
        queue_frames: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a batcher for `backend` with room for `queue_frames` latents; `clock` gives seconds."""
        self.backend = backend
        self._spec = spec
        self._clock = clock
        self._queue: DeadlineQueue[_Waiting] = DeadlineQueue(queue_frames)
        self._load = LoadMeter()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tail")
        self._running: asyncio.Future[Computed] | None = None
        self._closed = False

    @property
    def load_percent(self) -> int:
        """Share of the last second in which the tail computed."""
        return self._load.percent(self._clock())

    def admit(self, rows: int) -> None:
        """Hold `rows` places in the queue, before any work is spent on the frame.

        Raises:
            BusyError: If there is no room; nothing is held then.
        """
        if self._queue.admit(rows):
            return
        self._drop_expired()
        if not self._queue.admit(rows):
            raise BusyError(
                f"the queue is full: {self._queue.held_rows} of {self._queue.capacity_rows} latents wait; "
                "send fewer or try another server"
            )

    def release(self, rows: int) -> None:
        """Give back places that `admit` held for a frame that will not be submitted."""
        self._queue.release(rows)

    async def submit(
        self, latents: Sequence[NDArray[np.uint8]], *, deadline_s: float | None
    ) -> Computed | None:
        """Compute latents uint8 [c, H, W] whose places were admitted.

        Returns:
            The result, or None if `deadline_s` (on the batcher's clock) passed before the batch started.

        Raises:
            BackendError: If the tail failed on the batch.
            DrainingError: If the batcher was closed.
        """
        if self._closed:
            self._queue.release(len(latents))
            raise DrainingError("the server is stopping; send the frame to another")
        result: asyncio.Future[Computed | None] = asyncio.get_running_loop().create_future()
        self._queue.push(_Waiting(latents, result), rows=len(latents), deadline_s=deadline_s)
        self._start_batch()
        return await result

    async def close(self) -> None:
        """Refuse the frames that wait, and let the running batch, which nothing can interrupt, end."""
        self._closed = True
        for frame in self._queue.take(self._queue.held_rows, wanted=lambda frame: not frame.result.done()):
            frame.result.set_exception(DrainingError("the server stopped before the frame was computed"))
        if self._running is not None:
            await asyncio.wait([self._running])
        self._worker.shutdown(wait=False)

    def _drop_expired(self) -> None:
        for frame in self._queue.expire(self._clock()):
            if not frame.result.done():
                frame.result.set_result(None)

    def _start_batch(self) -> None:
        if self._running is not None:
            return
        self._drop_expired()
        # A cancelled frame's caller is gone: its place goes to another.
        batch = self._queue.take(self.backend.max_batch, wanted=lambda frame: not frame.result.done())
        if batch:
            self._running = asyncio.get_running_loop().run_in_executor(self._worker, self._compute, batch)
            self._running.add_done_callback(lambda done: self._end_batch(batch, done))

    def _compute(self, batch: Sequence[_Waiting]) -> Computed:
        started_s = self._clock()
        outputs_nc = self.backend.run(
            assemble([latent for frame in batch for latent in frame.latents], self._spec)
        )
        return Computed(outputs_nc=outputs_nc, started_s=started_s, compute_s=self._clock() - started_s)

    def _end_batch(self, batch: Sequence[_Waiting], done: asyncio.Future[Computed]) -> None:
        self._running = None
        fault = done.exception()
        if fault is None:
            self._hand_out(batch, done.result())
        else:
            log.error("a batch of %d frames failed: %s", len(batch), fault)
            for frame in batch:
                if not frame.result.done():
                    frame.result.set_exception(fault)
        self._start_batch()

    def _hand_out(self, batch: Sequence[_Waiting], computed: Computed) -> None:
        self._load.add(computed.started_s, computed.started_s + computed.compute_s)
        row = 0
        for frame in batch:
            rows = len(frame.latents)
            if not frame.result.done():
                frame.result.set_result(
                    Computed(
                        outputs_nc=computed.outputs_nc[row : row + rows],
                        started_s=computed.started_s,
                        compute_s=computed.compute_s,
                    )
                )
            row += rows
