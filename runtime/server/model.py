"""One served bundle: check a frame against it, decode it off the event loop, and have its tail compute it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import TABLES, TAIL, Bundle
from isthmus.runtime.codecs import FrequencyTables, decode_payload
from isthmus.runtime.errors import BundleError, PayloadError, UnknownModelError, WireError
from isthmus.runtime.server.backend import OnnxRuntimeBackend, TailBackend
from isthmus.runtime.server.batcher import Batcher
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.wire import Answer, FrameRequest

# A bundle has one version; its content is named by the payload's table id.
VERSION = "1"

_NO_OUTPUTS = np.empty((0, 0), np.float32)


class ServedModel:
    """A bundle whose tail is warm and takes frames."""

    def __init__(
        self,
        bundle: Bundle,
        backend: TailBackend,
        tables: FrequencyTables,
        *,
        decoders: Executor,
        queue_frames: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve `bundle` with `backend`, decoding payloads with `tables` in the pool `decoders`."""
        self.bundle = bundle
        self.backend = backend
        self.latent = bundle.manifest.latent
        self._tables = tables
        self._decoders = decoders
        self._clock = clock
        self._full_chw = (self.latent.channels, self.latent.height, self.latent.width)
        self._batcher = Batcher(backend, self.latent, queue_frames=queue_frames, clock=clock)

    @classmethod
    def open(cls, bundle: Bundle, config: ServerConfig, decoders: Executor) -> ServedModel:
        """Open the tail of `bundle` and warm it up; takes seconds, call it off the event loop.

        Raises:
            BundleError: If the tail or the tables cannot be used.
        """
        backend = OnnxRuntimeBackend(
            bundle.read(TAIL),
            latent=bundle.manifest.latent,
            classes=len(bundle.manifest.labels),
            threads=config.threads,
            max_batch=config.max_batch,
            where=str(bundle.root / TAIL),
        )
        tables = FrequencyTables.from_bytes(bundle.read(TABLES))
        if tables.table_id != bundle.manifest.table_id:
            raise BundleError(
                f"{bundle.root / TABLES}: table id {tables.table_id}, manifest.json says "
                f"{bundle.manifest.table_id}; export the bundle again"
            )
        return cls(bundle, backend, tables, decoders=decoders, queue_frames=config.queue_frames)

    @property
    def name(self) -> str:
        """The model's name on the wire."""
        return self.bundle.manifest.name

    async def answer(self, frame: FrameRequest, *, received_ns: int) -> Answer:
        """Answer one frame that arrived at `received_ns` (monotonic).

        Raises:
            WireError: If it does not fit the bundle.
            PayloadError: If a payload cannot be decoded.
            UnknownModelError: If it asks for a version or an output that is not there.
            BusyError: If too many frames wait.
            BackendError: If the tail failed on it.
        """
        self._check(frame)
        received_s = received_ns / 1e9
        deadline_s = None if frame.budget_s is None else received_s + frame.budget_s
        if deadline_s is not None and deadline_s <= self._clock():
            return self._expired(frame, received_ns)
        self._batcher.admit(frame.rows)
        try:
            latents = await self._latents(frame)
        except BaseException:  # cancellation too: the places must be given back
            self._batcher.release(frame.rows)
            raise
        computed = await self._batcher.submit(latents, deadline_s=deadline_s)
        if computed is None:
            return self._expired(frame, received_ns)
        return Answer(
            frame_id=frame.frame_id,
            outcome="ok",
            outputs_nc=computed.outputs_nc,
            queue_s=max(0.0, computed.started_s - received_s),
            compute_s=computed.compute_s,
            received_ns=received_ns,
            load_pct=self._batcher.load_percent,
        )

    async def close(self) -> None:
        """Stop computing; frames that still wait fail."""
        await self._batcher.close()

    def _check(self, frame: FrameRequest) -> None:
        if frame.version not in ("", VERSION):
            raise UnknownModelError(f"model '{self.name}' has no version {frame.version!r}, only '{VERSION}'")
        for output in frame.outputs:
            if output != self.backend.output:
                raise UnknownModelError(
                    f"model '{self.name}' has no output {output!r}, only '{self.backend.output}'"
                )
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

    async def _latents(self, frame: FrameRequest) -> Sequence[NDArray[np.uint8]]:
        if frame.latent_nchw is not None:
            return list(frame.latent_nchw)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, self._decode, frame.payloads)

    def _decode(self, payloads: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        latents = []
        channels, height, width = self._full_chw
        for index, payload in enumerate(payloads):
            try:
                decoded = decode_payload(
                    payload,
                    tables=self._tables,
                    # The header's claim is checked against this before anything of its size is allocated.
                    max_latent_bytes=channels * height * width,
                    expect=self._full_chw,
                )
            except PayloadError as error:
                raise PayloadError(f"item {index}: {error}") from None
            latents.append(decoded.latent_chw)
        return latents

    def _expired(self, frame: FrameRequest, received_ns: int) -> Answer:
        return Answer(
            frame_id=frame.frame_id,
            outcome="expired",
            outputs_nc=_NO_OUTPUTS,
            queue_s=max(0.0, self._clock() - received_ns / 1e9),
            received_ns=received_ns,
            load_pct=self._batcher.load_percent,
        )
