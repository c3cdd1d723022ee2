"""One client's stream of frames: read ahead, answer each frame the moment it is ready, in whatever order.

Decides when a stream ends. A frame that is late, unknown or refused gets its own answer and the stream goes
on. Bytes that break the protocol end it, after the frames that were accepted before have been answered: what
follows on such a stream cannot be trusted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator

from google.protobuf.message import DecodeError

from isthmus.runtime.errors import BackendError, DrainingError, IsthmusError, PeerError, WireError
from isthmus.runtime.server.service import TailService, outcome_of
from isthmus.runtime.wire import NO_MESSAGE, answer_response, oip, parse_request, refusal_response

log = logging.getLogger("isthmus.server")


class FrameStream:
    """Serve one stream; make one per call.

    Attributes:
        fault: What ended the stream, if it was the client's fault. Read it when `answers` has ended.
    """

    def __init__(self, service: TailService, *, window: int) -> None:
        """Make a stream over `service` that reads on while fewer than `window` frames are unanswered."""
        self.fault: PeerError | None = None
        self._service = service
        self._window = asyncio.Semaphore(window)
        self._answers: asyncio.Queue[oip.ModelStreamInferResponse | None] = asyncio.Queue()
        self._frames: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False
        self._model = ""

    async def answers(
        self, requests: AsyncIterable[oip.ModelInferRequest]
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        """Yield the answers to `requests` until the client is done, `stop_reading` or a fault."""
        if self._stopped:
            return
        self._reader = asyncio.create_task(self._read(requests))
        self._reader.add_done_callback(self._end_when_answered)
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
                # Only now is the answer written: a client that does not read its answers is not read either.
                self._window.release()
        finally:
            self._reader.cancel()
            for frame in self._frames:
                frame.cancel()

    def stop_reading(self) -> None:
        """Accept no more frames; end when those that were accepted are answered."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, requests: AsyncIterable[oip.ModelInferRequest]) -> None:
        incoming = aiter(requests)
        while True:
            await self._window.acquire()
            try:
                request = await anext(incoming)
            except StopAsyncIteration:
                return
            except DecodeError:
                self.fault = self.fault or WireError(NO_MESSAGE)
                return
            received_ns = time.monotonic_ns()
            # A lean client names its model once.
            self._model = request.model_name = request.model_name or self._model
            try:
                self._service.accept()
            except DrainingError as error:
                self._answers.put_nowait(_refusal(request, error))
                continue
            frame = asyncio.create_task(self._answer(request, received_ns))
            self._frames.add(frame)
            frame.add_done_callback(self._frames.discard)
            frame.add_done_callback(self._end_when_answered)

    async def _answer(self, request: oip.ModelInferRequest, received_ns: int) -> None:
        try:
            frame = parse_request(request)
            answer = await self._service.infer(frame, received_ns=received_ns)
        except IsthmusError as error:
            if isinstance(error, PeerError):
                self.fault = self.fault or error
                self.stop_reading()
            message = _refusal(request, error)
        except Exception:  # our bug; a frame that is never answered would hide it from the client
            log.exception("frame %r of model %r", request.id, request.model_name)
            message = _refusal(request, BackendError("internal error; see the server's log"))
        else:
            output = self._service.model(request.model_name).backend.output
            message = oip.ModelStreamInferResponse(
                infer_response=answer_response(
                    answer, model=request.model_name, output=output, lean=frame.lean
                )
            )
        self._answers.put_nowait(message)

    def _end_when_answered(self, _done: asyncio.Task[None]) -> None:
        if self._reader is not None and self._reader.done() and not self._frames:
            self._answers.put_nowait(None)


def _refusal(request: oip.ModelInferRequest, error: IsthmusError) -> oip.ModelStreamInferResponse:
    return refusal_response(
        frame_id=request.id,
        model=request.model_name,
        outcome=outcome_of(error),
        error=str(error),
        lean=not request.inputs,
    )
