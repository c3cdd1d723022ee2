"""One client's stream of frames: read ahead, answer each frame the moment it is ready, in whatever order.

Decides when a stream ends. A frame that is late, unknown or refused gets its own answer and the stream goes
on. Bytes that break the protocol end it, after the frames that were accepted before have been answered: what
follows on such a stream cannot be trusted. So does a client that is not taken any more, or that names a model
it may not use; one that asks for more at once than it may gets "busy" for what is too much.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from isthmus.runtime.errors import (
    AccessError,
    BackendError,
    BusyError,
    DrainingError,
    IsthmusError,
    PeerError,
    WireError,
)
from isthmus.runtime.server.frame_call import FrameCall, outcome_of
from isthmus.runtime.server.identity import Caller, calling
from isthmus.runtime.server.refusals import message_of
from isthmus.runtime.server.service import TailService
from isthmus.runtime.wire import (
    MAX_NAME,
    NO_MESSAGE,
    Answer,
    FrameRequest,
    oip,
    parse_request,
    refusal_response,
    stream_response,
)

log = logging.getLogger("isthmus.server")

Context = grpc.aio.ServicerContext[Any, Any]
EOF = grpc.aio.EOF


class FrameStream:
    """Serve one stream; make one per call.

    Attributes:
        fault: What ended the stream, if it was the client's fault. Read it when `answers` has ended.
    """

    def __init__(self, service: TailService, *, window: int, caller: Caller | None = None) -> None:
        """Make a stream over `service` that reads on while fewer than `window` frames are unanswered.

        Args:
            service: What answers the frames.
            window: Most frames of the stream that may be unanswered.
            caller: Whose stream it is; None: whose call this task answers.
        """
        self.fault: PeerError | AccessError | None = None
        self._caller = calling() if caller is None else caller
        self._service = service
        self._window = window
        self._unwritten = 0  # frames read whose answers are not yet written
        self._unanswered = 0
        self._calls: set[FrameCall] = set()
        self._ready: deque[oip.ModelStreamInferResponse] = deque()
        self._writing = False
        self._reader_writes = False
        self._beginning = False
        self._writer: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False
        self._model = ""

    async def serve(self, context: Context) -> None:
        """Read frames from `context` and write their answers, until the client is done or a fault."""
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        self._reader = asyncio.create_task(self._read(context))
        self._reader.add_done_callback(lambda done: self._wake_writer())
        try:
            while True:
                if not self._writing:
                    while self._ready:
                        await self._write(context)
                    if self._reader.done() and not self._unanswered:
                        break
                self._writer = loop.create_future()
                await self._writer
        finally:
            self._reader.cancel()
            for call in tuple(self._calls):
                call.cancel()
                self._caller.give()
        if not self._reader.cancelled() and (bug := self._reader.exception()) is not None:
            raise bug

    def stop_reading(self) -> None:
        """Accept no more frames; end when those that were accepted are answered."""
        self._stopped = True
        # A reader that is answering stops by itself: cancelled, it would lose the answer.
        if self._reader is not None and not (self._beginning or self._reader_writes):
            self._reader.cancel()

    async def _read(self, context: Context) -> None:
        while not self._stopped:
            while self._unwritten >= self._window:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            try:
                request = await context.read()
            except DecodeError:
                self.fault = self.fault or WireError(NO_MESSAGE)
                return
            if request is EOF:
                return
            received_ns = time.monotonic_ns()
            # A lean client names its model once.
            self._model = request.model_name = request.model_name or self._model
            try:
                self._caller.check(request.model_name)
                self._service.accept()
                self._caller.take()
            except AccessError as error:
                self.fault = self.fault or error
                return
            except (DrainingError, BusyError) as error:
                self._unwritten += 1
                self._answer(_refusal(request, error))
                continue
            self._beginning = True
            self._begin(request, received_ns)
            self._beginning = False
            # Answered already, and nobody is writing: the way through the other task would cost more.
            if self._ready and not self._writing:
                self._reader_writes = True
                await self._write(context)
                self._reader_writes = False
                if self._ready:
                    self._wake_writer()

    async def _write(self, context: Context) -> None:
        """Write the answer that is next."""
        self._writing = True
        try:
            await context.write(self._ready.popleft())
        finally:
            self._writing = False
        # Only now: a client that does not read its answers is not read either.
        self._unwritten -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _begin(self, request: oip.ModelInferRequest, received_ns: int) -> None:
        self._unwritten += 1
        self._unanswered += 1
        call: FrameCall | None = None
        ended = False

        def done(result: Answer | IsthmusError) -> None:
            nonlocal ended
            ended = True
            if call is not None:
                self._calls.discard(call)
            self._caller.give()
            self._unanswered -= 1
            self._answer(self._message(request, frame, output, result))

        frame: FrameRequest | None = None
        output = ""
        try:
            frame = parse_request(request)
            output = self._service.output(frame.model)
            call = self._service.begin(frame, received_ns=received_ns, done=done)
        except IsthmusError as error:
            done(error)
        except Exception:  # our bug; a frame that is never answered would hide it from the client
            log.exception("frame %r of model %r", request.id, request.model_name)
            if not ended:
                done(BackendError("internal error; see the server's log"))
        if call is not None and not ended:
            self._calls.add(call)

    def _message(
        self,
        request: oip.ModelInferRequest,
        frame: FrameRequest | None,
        output: str,
        result: Answer | IsthmusError,
    ) -> oip.ModelStreamInferResponse:
        if isinstance(result, IsthmusError):
            if isinstance(result, PeerError):
                self.fault = self.fault or result
                self.stop_reading()
            return _refusal(request, result)
        return stream_response(
            result, model=request.model_name, output=output, lean=frame is not None and frame.lean
        )

    def _answer(self, message: oip.ModelStreamInferResponse) -> None:
        self._ready.append(message)
        # What is answered at once the reader writes itself, unless somebody is writing already.
        if not self._beginning or self._writing:
            self._wake_writer()

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _refusal(request: oip.ModelInferRequest, error: IsthmusError) -> oip.ModelStreamInferResponse:
    return refusal_response(
        frame_id=request.id[:MAX_NAME],
        model=request.model_name[:MAX_NAME],
        outcome=outcome_of(error),
        error=message_of(error),
        lean=not request.inputs,
    )
