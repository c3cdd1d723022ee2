"""Frames out and answers in over one connection, for as long as it lasts.

Decides when a frame leaves (the transport takes it; it is asked for at that moment) and which answer belongs
to which frame. Our own server and Triton are spoken to over one bidirectional stream. A server without that
extension, or one whose stream turns out to be of another kind, gets one call per frame. Knows nothing of
other servers and of connecting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np

from isthmus.device_agents.crew import Crew
from isthmus.device_agents.uplink.peer import is_busy
from isthmus.device_agents.uplink.roster import Server
from isthmus.device_agents.uplink.sink import UplinkSink
from isthmus.device_agents.uplink.trust import pushback_s
from isthmus.runtime.wire import Answer, InferenceStub, is_other_form, parse_answer, parse_stream_answer
from isthmus.runtime.wire import oip_pb2 as oip

# Far more frames than a run can have.
_MOST_DIGITS = 20


class LostError(Exception):
    """A connection ended in a way that another attempt may cure."""


class Exchange:
    """One connection's frames and answers.

    Args:
        channel: The connection.
        stub: The server's methods on it.
        server: Whose it is; what is learned of its stream is noted there.
        sink: Who is asked for messages.
        on_answer: Told (frame, answer, monotonic seconds) of every answer to a number that can be a frame.
        answer_timeout_s: Seconds that a single call may take.

    Attributes:
        stub: As given.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        stub: InferenceStub,
        *,
        server: Server,
        sink: UplinkSink,
        on_answer: Callable[[int, Answer, float], None],
        answer_timeout_s: float,
    ) -> None:
        self.stub = stub
        self._channel, self._server, self._sink, self._on_answer = channel, server, sink, on_answer
        self._answer_timeout_s = answer_timeout_s
        self._queue: asyncio.Queue[int] = asyncio.Queue()
        self._sent_s: dict[int, float] = {}

    def send(self, frame: int) -> None:
        """Send `frame` once the connection takes it."""
        self._queue.put_nowait(frame)

    def oldest(self) -> tuple[int, float] | None:
        """Return the frame that has waited longest for its answer, and since when; None if there is none."""
        return next(iter(self._sent_s.items()), None)

    async def by_stream(self, crew: Crew) -> None:
        """Send and read over one stream until it ends; raises why."""
        call = self.stub.ModelStreamInfer()
        crew.start(self._write(call))
        answered = False
        while True:
            try:
                message = await call.read()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED or answered:
                    raise
                self._server.single_calls = True
                raise LostError(f"it has no stream ({error.details()}): one call a frame") from None
            if message is grpc.aio.EOF:
                raise LostError("the server ended the stream")
            if not answered and is_other_form(message):
                self._server.single_calls = True
                raise LostError("its stream is of another kind than Triton's: one call a frame")
            answered = True
            answer = parse_stream_answer(message)
            self._deliver(_frame_of(answer.frame_id), answer)

    async def by_calls(self, crew: Crew) -> None:
        """Make one call per frame; `crew` fails with the first that cannot be answered."""
        while True:
            frame, message = await self._next()
            crew.start(self._call(frame, message))

    async def _write(self, call: Any) -> None:
        while True:
            _, message = await self._next()
            try:
                # Returns once the transport has taken the message: on a link that stands still, frames wait
                # in our own queue, where they can still be recalled.
                await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream has ended; reading it tells why

    async def _call(self, frame: int, message: oip.ModelInferRequest) -> None:
        try:
            response = await self.stub.ModelInfer(message, timeout=self._answer_timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                # Its stream was of no other kind, then, but answered nonsense: back to a stream.
                self._server.single_calls = False
            if not is_busy(error, self._channel):
                raise
            nothing, wait_s = np.empty((0, 0), np.float32), pushback_s(error)
            busy = Answer(frame_id=message.id, outcome="busy", outputs_nc=nothing, retry_after_s=wait_s)
            self._deliver(frame, busy)
        else:
            self._deliver(frame, parse_answer(response))

    async def _next(self) -> tuple[int, oip.ModelInferRequest]:
        while True:
            frame = await self._queue.get()
            message = self._sink.message(frame, str(frame))
            if message is not None:
                self._sent_s[frame] = time.monotonic()
                return frame, message

    def _deliver(self, frame: int | None, answer: Answer) -> None:
        if frame is not None:
            self._sent_s.pop(frame, None)
            self._on_answer(frame, answer, time.monotonic())


def _frame_of(frame_id: str) -> int | None:
    # An endless number would be an error of `int`, and no number that long is a frame of ours.
    return int(frame_id) if frame_id.isdecimal() and len(frame_id) < _MOST_DIGITS else None
