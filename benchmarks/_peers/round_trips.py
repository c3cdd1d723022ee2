"""One frame at a time there and back, by every road: what `overhead` times."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from _peers.echo_server import ANSWER, HEADER, METHOD, receive
from _peers.null_server import CLASSES, SIDE
from _peers.places import HERE, PROJECT
from isthmus.runtime.codecs import encode_payload
from isthmus.runtime.errors import GateError
from isthmus.runtime.grpc_engine import EXPERIMENTS
from isthmus.runtime.wire import (
    CHANNEL_OPTIONS,
    InferenceStub,
    latent_request,
    lean_request,
    oip,
    parse_answer,
)

ANSWER_BYTES = 4 * CLASSES
# Frames have a deadline; that it is far away costs nothing.
_BUDGET_US = 5_000_000

Request = Callable[[str], oip.ModelInferRequest]


class Road(Protocol):
    """A way to a server and back, for messages of one size."""

    async def once(self) -> int:
        """Send one frame and take its answer; return the nanoseconds that took.

        Raises:
            GateError: If the answer is not the right one.
        """
        ...

    async def several(self, count: int) -> list[int]:
        """Return the nanoseconds of `count` trips, one after the other."""
        return [await self.once() for _ in range(count)]

    async def close(self) -> None:
        """Hang up."""
        ...


def draw_latent(size: int) -> NDArray[np.uint8]:
    """Return a latent uint8 [c, 10, 10] of `size` bytes."""
    rng = np.random.default_rng(size)
    return rng.integers(0, 256, (size // (SIDE * SIDE), SIDE, SIDE), dtype=np.uint8)


def payload_of(size: int) -> bytes:
    """Return an encoded payload of about `size` bytes: the header is beside it."""
    return encode_payload(draw_latent(size), codec="raw", width_index=0, tables=None)


def lean_frames(size: int) -> Request:
    """Return what makes our agent's requests, in the short form."""
    payload, model = payload_of(size), f"null-{size}"
    return lambda frame_id: lean_request(
        model=model, frame_id=frame_id, payload=payload, budget_us=_BUDGET_US
    )


def latent_frames(size: int, model: str, *, budget: bool = True) -> Request:
    """Return what makes requests with a plain latent, which any server takes."""
    latent_nchw = draw_latent(size)[None]
    budget_us = _BUDGET_US if budget else None
    return lambda frame_id: latent_request(
        model=model, frame_id=frame_id, latent_nchw=latent_nchw, budget_us=budget_us
    )


class Tcp(Road):
    """A blocking socket to the echo server: `size` bytes there, `answer_bytes` back."""

    def __init__(self, port: int, size: int, answer_bytes: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message = HEADER.pack(size, answer_bytes) + bytes(size)
        self._answer = memoryview(bytearray(answer_bytes))

    async def once(self) -> int:
        """See `Road.once`."""
        began = time.perf_counter_ns()
        self._socket.sendall(self._message)
        if not receive(self._socket, self._answer):
            raise GateError("the TCP echo hung up")
        return time.perf_counter_ns() - began

    async def close(self) -> None:
        """See `Road.close`."""
        self._socket.close()


class BareGrpc(Road):
    """A bidirectional stream of bytes to the gRPC echo server."""

    def __init__(self, address: str, size: int) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._call: Any = self._channel.stream_stream(METHOD)()
        self._message = ANSWER.pack(ANSWER_BYTES) + bytes(size - ANSWER.size)

    async def once(self) -> int:
        """See `Road.once`."""
        began = time.perf_counter_ns()
        await self._call.write(self._message)
        answer = await self._call.read()
        taken = time.perf_counter_ns() - began
        if len(answer) != ANSWER_BYTES:
            raise GateError(f"the gRPC echo answered {len(answer)} bytes")
        return taken

    async def close(self) -> None:
        """See `Road.close`."""
        self._call.cancel()
        await self._channel.close()


class PlainGrpc(Road):
    """`BareGrpc` from a process of its own, in which gRPC and asyncio are as they come."""

    def __init__(self, address: str, size: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name != EXPERIMENTS}
        environment["PYTHONPATH"] = os.pathsep.join([str(PROJECT), str(HERE.parent)])
        self._process = subprocess.Popen(
            [sys.executable, HERE / "echo_client.py", address, str(size)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def once(self) -> int:
        """See `Road.once`."""
        return (await self.several(1))[0]

    async def several(self, count: int) -> list[int]:
        """See `Road.several`."""
        assert self._process.stdin is not None, "it was started with a pipe"
        assert self._process.stdout is not None, "it was started with a pipe"
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise GateError("the client of the gRPC echo ended")
        taken: list[int] = json.loads(line)
        return taken

    async def close(self) -> None:
        """See `Road.close`."""
        self._process.communicate()


class Stream(Road):
    """Open Inference Protocol over the bidirectional stream."""

    def __init__(self, channel: grpc.aio.Channel, request: Request, *, lean: bool = False) -> None:
        self._channel, self._request, self._lean = channel, request, lean
        self._call: Any = InferenceStub(channel).ModelStreamInfer()
        self._frame = 0

    async def once(self) -> int:
        """See `Road.once`."""
        frame_id = str(self._frame)
        began = time.perf_counter_ns()
        message = self._request(frame_id)
        if self._lean and self._frame:
            message.model_name = ""  # as our agents do: said once a stream
        await self._call.write(message)
        response = await self._call.read()
        if response is grpc.aio.EOF or response.error_message:
            raise GateError(f"no answer on the stream: {getattr(response, 'error_message', 'it ended')}")
        answer = parse_answer(response.infer_response)
        taken = time.perf_counter_ns() - began
        _check(answer, frame_id)
        self._frame += 1
        return taken

    async def close(self) -> None:
        """See `Road.close`."""
        self._call.cancel()
        await self._channel.close()


class Unary(Road):
    """Open Inference Protocol, one call a frame."""

    def __init__(self, channel: grpc.aio.Channel, request: Request) -> None:
        self._channel, self._request = channel, request
        self._infer = InferenceStub(channel).ModelInfer
        self._frame = 0

    async def once(self) -> int:
        """See `Road.once`."""
        frame_id = str(self._frame)
        began = time.perf_counter_ns()
        answer = parse_answer(await self._infer(self._request(frame_id)))
        taken = time.perf_counter_ns() - began
        _check(answer, frame_id)
        self._frame += 1
        return taken

    async def close(self) -> None:
        """See `Road.close`."""
        await self._channel.close()


def plain_channel(address: str) -> grpc.aio.Channel:
    """Return a channel with the options of an agent's to a server that is not ours."""
    from isthmus.runtime.wire import channel_options

    return grpc.aio.insecure_channel(address, options=channel_options(gentle=True, handshake_s=20.0))


def _check(answer: Any, frame_id: str) -> None:
    # Triton's stream gives the id back, MLServer too; what they answer is ten zeros.
    if answer.frame_id != frame_id or answer.outcome != "ok" or answer.outputs_nc.shape != (1, CLASSES):
        raise GateError(f"frame {frame_id}: answered {answer.frame_id!r}, {answer.outcome}, {answer.error}")
