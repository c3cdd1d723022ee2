"""Connections of simulated devices to each server, with any number of frames in flight."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any, Protocol

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from _peers.round_trips import plain_channel
from _peers.tails import Tail
from isthmus.runtime.errors import BusyError, NetworkError
from isthmus.runtime.wire import (
    InferenceStub,
    channel_options,
    latent_request,
    lean_request,
    oip,
    parse_answer,
)
from isthmus.runtime.wire.tls import ClientSecurity

# Far more than any frame takes: none is to be late, for late frames are cheap.
_BUDGET_US = 60_000_000

Scores = NDArray[np.float32]
Request = Callable[[str], oip.ModelInferRequest]


class Line(Protocol):
    """One device's connection."""

    async def ask(self, frame: int) -> Scores:
        """Send frame number `frame` and return its answer.

        Raises:
            BusyError: If the server refuses it.
            NetworkError: If there is no answer.
        """
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


class StreamLine:
    """A bidirectional stream; answers come in any order."""

    def __init__(
        self, channel: grpc.aio.Channel, request: Callable[[int, str], oip.ModelInferRequest]
    ) -> None:
        self._channel, self._request = channel, request
        self._call: Any = InferenceStub(channel).ModelStreamInfer()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._sent = 0
        self._writing = asyncio.Lock()
        self._reader = asyncio.create_task(self._read())

    async def ask(self, frame: int) -> Scores:
        """See `Line.ask`."""
        frame_id = str(self._sent)
        self._sent += 1
        waiting = self._waiting[frame_id] = asyncio.get_running_loop().create_future()
        try:
            async with self._writing:  # gRPC takes one message of a call at a time
                await self._call.write(self._request(frame, frame_id))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._reader  # it knows why the stream has ended, and tells everybody who waits
        response = await waiting
        answer = parse_answer(response.infer_response)
        if response.error_message or answer.outcome != "ok":
            raise BusyError(f"frame {frame_id}: {answer.outcome} {response.error_message}")
        return answer.outputs_nc

    async def close(self) -> None:
        """See `Line.close`."""
        self._reader.cancel()
        self._call.cancel()
        await self._channel.close()

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._waiting.pop(response.infer_response.id).set_result(response)
            error = NetworkError("the stream ended")
        except grpc.aio.AioRpcError as failed:
            error = NetworkError(f"the stream failed: {failed.code().name} {failed.details()}")
        for waiting in self._waiting.values():
            waiting.set_exception(error)
        self._waiting.clear()


class UnaryLine:
    """One call a frame."""

    def __init__(
        self, channel: grpc.aio.Channel, request: Callable[[int, str], oip.ModelInferRequest]
    ) -> None:
        self._channel, self._request = channel, request
        self._infer = InferenceStub(channel).ModelInfer

    async def ask(self, frame: int) -> Scores:
        """See `Line.ask`."""
        try:
            return parse_answer(await self._infer(self._request(frame, "frame"))).outputs_nc
        except grpc.aio.AioRpcError as failed:
            raise NetworkError(f"{failed.code().name}: {failed.details()}") from None

    async def close(self) -> None:
        """See `Line.close`."""
        await self._channel.close()


class HttpLine:
    """HTTP/1.1 with connections that are kept, one per frame in flight."""

    def __init__(self, port: int, tail: Tail) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._opened: list[asyncio.StreamWriter] = []
        self._messages = [_http_message(latent) for latent in tail.latents_nchw]

    async def ask(self, frame: int) -> Scores:
        """See `Line.ask`."""
        message = self._messages[frame % len(self._messages)]
        while self._idle:
            # Servers hang up on connections that rest for a few seconds; that is no failure of theirs.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                return await self._exchange(*self._idle.pop(), message)
        try:
            return await self._exchange(*await self._open(), message)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise NetworkError(f"the connection broke: {error}") from None

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
    ) -> Scores:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise NetworkError(f"{head.splitlines()[0]!r}: {body[:200]!r}")
        self._idle.append((reader, writer))
        return np.frombuffer(body, np.float32)[None]

    async def close(self) -> None:
        """See `Line.close`."""
        for writer in self._opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._opened.append(writer)
        return reader, writer


def payload_line(address: str, tail: Tail, points: tuple[int, ...], number: int) -> StreamLine:
    """Return line `number` to our server with encoded payloads, each line at one of `points` in turn."""
    payloads = tail.payloads[points[number % len(points)]]
    name = tail.bundle.manifest.name

    def request(frame: int, frame_id: str) -> oip.ModelInferRequest:
        payload = payloads[frame % len(payloads)]
        # The stream names its model once.
        model = name if frame_id == "0" else ""
        return lean_request(model=model, frame_id=frame_id, payload=payload, budget_us=_BUDGET_US)

    # A server has one core here: 128 lines that connect may take longer than a device would wait.
    return StreamLine(ClientSecurity().channel(address, channel_options(handshake_s=20.0)), request)


def latent_line(address: str, tail: Tail) -> StreamLine:
    """Return a line with plain latents over the stream, to ours or to Triton."""
    return StreamLine(plain_channel(address), _latent(tail))


def latent_calls(address: str, tail: Tail) -> UnaryLine:
    """Return a line with plain latents, one call each."""
    return UnaryLine(plain_channel(address), _latent(tail))


def _latent(tail: Tail) -> Callable[[int, str], oip.ModelInferRequest]:
    name, latents = tail.bundle.manifest.name, [latent[None] for latent in tail.latents_nchw]
    return lambda frame, frame_id: latent_request(
        model=name, frame_id=frame_id, latent_nchw=latents[frame % len(latents)], budget_us=None
    )


def _http_message(latent_chw: NDArray[np.uint8]) -> bytes:
    body = json.dumps({"latent": base64.b64encode(latent_chw.tobytes()).decode("ascii")}).encode("ascii")
    head = (
        "POST /predict HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "\r\n",
    )
    return "\r\n".join(head).encode("ascii") + body
