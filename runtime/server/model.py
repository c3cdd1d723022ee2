"""One served bundle: which frames fit it, how its payloads are decoded, and what it has done."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import TABLES, Bundle
from isthmus.runtime.codecs import FrequencyTables, decode_payload
from isthmus.runtime.errors import BundleError, PayloadError, UnknownModelError, WireError
from isthmus.runtime.server.accelerator import HAND_OFF_S
from isthmus.runtime.server.backend import TailBackend
from isthmus.runtime.server.backends import open_backend
from isthmus.runtime.server.batcher import Batcher
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.server.frame_call import Done, FrameCall
from isthmus.runtime.server.records import FrameRecord
from isthmus.runtime.server.statistics import ModelStatistics
from isthmus.runtime.server.workers import Workers
from isthmus.runtime.wire import Answer, FrameRequest

# A bundle has one version; its content is named by the payload's table id.
VERSION = "1"

# However quick decoding seems, more than this is not decoded on the event loop.
_LARGEST_QUICK_BYTES = 256 << 10
# Of the newest duration in the average.
_DECODE_SHARE = 0.1
# After the first few, one payload in so many is timed: a thread's clock takes as long as a short one.
_TIMED_ALL = 32
_TIMED_EVERY = 8


class ServedModel:
    """A bundle whose tail is warm and takes frames.

    Attributes:
        bundle: What is served.
        backend: What computes its tail.
        latent: The latents it takes.
        statistics: What it has done so far.
        batcher: Its queue.
        workers: What it shares with other models.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: TailBackend,
        tables: FrequencyTables,
        *,
        workers: Workers,
        queue_frames: int,
    ) -> None:
        """Serve `bundle` with `backend`, decoding payloads with `tables`."""
        self.bundle = bundle
        self.backend = backend
        self.latent = bundle.manifest.latent
        self.statistics = ModelStatistics()
        self.workers = workers
        self.clock = workers.clock
        self._tables = tables
        self._full_chw = (self.latent.channels, self.latent.height, self.latent.width)
        self._full_bytes = math.prod(self._full_chw)
        self._decode_s_per_byte = 0.0  # of payloads, an exponential average
        self._decoded = 0
        self._in_flight = 0
        self._retiring: asyncio.Event | None = None
        self.batcher = Batcher(
            backend,
            self.latent,
            workers.accelerator,
            queue_frames=queue_frames,
            clock=workers.clock,
            on_batch=self._batch,
        )
        for recorder in workers.recorders:
            recorder.model(self.name, provider=backend.provider, queued=lambda: self.batcher.queued)

    @classmethod
    def open(cls, bundle: Bundle, config: ServerConfig, workers: Workers) -> ServedModel:
        """Open the tail of `bundle` and warm it up; takes seconds, call it off the event loop.

        Raises:
            BundleError: If the tail or the tables cannot be used.
            GateError: If the backend's precision costs accuracy.
            MissingExtraError: If the backend asked for is not installed.
        """
        tables = FrequencyTables.from_bytes(bundle.read(TABLES))
        if tables.table_id != bundle.manifest.table_id:
            raise BundleError(
                f"{bundle.root / TABLES}: table id {tables.table_id}, manifest.json says "
                f"{bundle.manifest.table_id}; export the bundle again"
            )
        backend = open_backend(bundle, config)
        return cls(bundle, backend, tables, workers=workers, queue_frames=config.queue_frames)

    @property
    def name(self) -> str:
        """The model's name on the wire."""
        return self.bundle.manifest.name

    def begin(self, frame: FrameRequest, *, received_ns: int, done: Done, parent: str = "") -> FrameCall:
        """Serve one frame.

        Args:
            frame: What was asked.
            received_ns: When it arrived, monotonic.
            done: Called once on the event loop, perhaps before this returns, with an answer, or with a
                WireError (it does not fit the bundle), PayloadError (it cannot be decoded),
                UnknownModelError (of a version or an output), BusyError, DrainingError or BackendError.
            parent: W3C traceparent that came with it.

        Returns:
            The call, to cancel it.
        """
        call = FrameCall(self, frame, received_ns=received_ns, parent=parent, done=done)
        self._in_flight += 1
        call.begin()
        return call

    async def answer(self, frame: FrameRequest, *, received_ns: int, parent: str = "") -> Answer:
        """Answer one frame, as `begin`; cancelling this cancels the frame.

        Raises:
            WireError, PayloadError, UnknownModelError, BusyError, DrainingError, BackendError: As `begin`.
        """
        result: asyncio.Future[Answer | Exception] = asyncio.get_running_loop().create_future()

        def done(answer: Answer | Exception) -> None:
            if not result.done():
                result.set_result(answer)

        call = self.begin(frame, received_ns=received_ns, done=done, parent=parent)
        try:
            answer = await result
        finally:
            call.cancel()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def retire(self) -> None:
        """Wait until every frame that was begun has ended, then close."""
        if self._in_flight:
            self._retiring = asyncio.Event()
            await self._retiring.wait()
        await self.close()

    async def close(self) -> None:
        """Stop computing; frames that still wait fail."""
        await self.batcher.close()

    # What `FrameCall` needs.

    def check(self, frame: FrameRequest) -> None:
        """Refuse what does not fit the bundle.

        Raises:
            UnknownModelError: If it asks for a version or an output that is not there.
            WireError: If its shape does not fit, or it is too many latents.
        """
        if frame.version not in ("", VERSION):
            raise UnknownModelError(f"model '{self.name}' has no version {frame.version!r}, only '{VERSION}'")
        for output in frame.outputs:
            if output != self.backend.output:
                raise WireError(f"model '{self.name}' has no output {output!r}, only '{self.backend.output}'")
        if frame.rows > self.backend.max_batch:
            raise WireError(
                f"{frame.rows} latents in one request, at most {self.backend.max_batch} are taken"
            )
        if frame.latent_nchw is not None:
            _, channels, height, width = frame.latent_nchw.shape
            full, *plane = self._full_chw
            if channels > full or [height, width] != plane:
                raise WireError(
                    f"input 'latent': shape {list(frame.latent_nchw.shape)} does not fit model "
                    f"'{self.name}', which takes [n, 1 to {full}, {plane[0]}, {plane[1]}]"
                )

    def decodes_quickly(self, frame: FrameRequest) -> bool:
        """Say whether decoding `frame` is expected to take less than handing it to another thread."""
        size = sum(map(len, frame.payloads))
        return size <= _LARGEST_QUICK_BYTES and self._decode_s_per_byte * size <= HAND_OFF_S

    def decode(self, payloads: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        """Return the latents uint8 [c, H, W] of `payloads`; from any thread.

        Raises:
            PayloadError: If one cannot be decoded.
        """
        self._decoded += 1
        timed = self._decoded <= _TIMED_ALL or self._decoded % _TIMED_EVERY == 0
        started_s = time.thread_time() if timed else 0.0  # not the time in which others had the core
        latents = []
        for index, payload in enumerate(payloads):
            try:
                decoded = decode_payload(
                    payload,
                    tables=self._tables,
                    # The header's claim is checked against this before anything of its size is allocated.
                    max_latent_bytes=self._full_bytes,
                    expect=self._full_chw,
                )
            except PayloadError as error:
                raise PayloadError(f"item {index}: {error}") from None
            latents.append(decoded.latent_chw)
        if timed:
            s_per_byte = (time.thread_time() - started_s) / sum(map(len, payloads))
            self._decode_s_per_byte += _DECODE_SHARE * (s_per_byte - self._decode_s_per_byte)
        return latents

    def ended(self) -> None:
        """Count one frame less in flight."""
        self._in_flight -= 1
        if not self._in_flight and self._retiring is not None:
            self._retiring.set()

    def record(self, frame: FrameRecord) -> None:
        """Tell whoever wants to know that a frame has ended."""
        for recorder in self.workers.recorders:
            recorder.frame(frame)

    def _batch(self, latents: int, compute_s: float) -> None:
        self.statistics.executed(latents=latents, compute_s=compute_s)
        for recorder in self.workers.recorders:
            recorder.batch(self.name, latents, compute_s)
