"""What the way to a server is like: round trips of empty calls, and the uplink's rate from short bursts.

A burst (a train of messages sent at once) leaves the link back to back, so the spacing in which its messages
arrive is the rate of the narrowest part of the way (packet trains: Jain and Routhier 1986). Our servers stamp
each arrival with their own clock, and the frames carry no budget, so that they cost no computation; with
another server the spacing of the completed calls stands in. Refuses to flood: bytes and time are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
import numpy as np

from isthmus.device_agents.uplink.peer import error_text
from isthmus.device_agents.uplink.trust import why_refused
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.wire import InferenceStub, latent_request, parse_answer
from isthmus.runtime.wire import oip_pb2 as oip
from isthmus.runtime.wire.tls import DEFAULT_SECURITY, ClientSecurity

LARGEST_BYTES, LONGEST_S = 16_000_000, 60.0
_ROUND_TRIPS = 20
_TRAINS = 12
# A train should take about this long: longer than the scheduler's noise, shorter than a link stays the same.
_TRAIN_S = 0.4
_SHORTEST_TRAIN, _LONGEST_TRAIN = 4, 64
# A message of at most one HTTP/2 frame crosses as a whole: calls at the same time do not interleave in it.
_SMALLEST_MESSAGE, _LARGEST_MESSAGE = 500, 16_000
_PADDING = "isthmus_padding"
_CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """The way to one server, as measured.

    Attributes:
        server: HOST:PORT.
        rtt_s: Round trips of an empty call, sorted, seconds; server's time included.
        rates: Bytes per second of each train, in their order; headers of TCP and IP excluded.
        clock: Whose clock timed the trains: "server", or "completions" where it has none for us.
        sent_bytes: What the trains took.
        elapsed_s: Seconds the whole test took.
    """

    server: str
    rtt_s: tuple[float, ...]
    rates: tuple[float, ...]
    clock: str
    sent_bytes: int
    elapsed_s: float

    @property
    def rate_bytes_per_s(self) -> float | None:
        """The median of the trains; None if none was timed."""
        return statistics.median(self.rates) if self.rates else None


async def measure_link(
    server: str,
    *,
    model: str = "",
    most_bytes: int = 1_000_000,
    longest_s: float = 10.0,
    security: ClientSecurity = DEFAULT_SECURITY,
) -> LinkReport:
    """Return what the way to `server` is like.

    Args:
        server: HOST:PORT of a server of the Open Inference Protocol.
        model: A model it has; without one every message of the trains is refused, which times them as well.
        most_bytes: What the trains may take at most, up to 16 MB.
        longest_s: Seconds the test may take about, up to 60.
        security: How the server is spoken to.

    Raises:
        InputError: If a bound is beyond what this test may do.
        NetworkError: If the server cannot be reached.
        AccessError: If TLS or authentication fails.
    """
    if not 10_000 <= most_bytes <= LARGEST_BYTES or not 1.0 <= longest_s <= LONGEST_S:
        raise InputError(
            f"link test of {most_bytes} bytes in {longest_s:g} s: give 10000 to {LARGEST_BYTES} bytes and "
            f"1 to {LONGEST_S:g} s; it is a probe, no load generator"
        )
    begun_s = time.monotonic()
    async with security.channel(server) as channel:
        stub = InferenceStub(channel, security.metadata(server))
        rtt_s = await _round_trips(stub, server, security, until_s=begun_s + longest_s / 2)
        trains = _Trains(stub, await _latent_shape(stub, model), model)
        await trains.run(most_bytes=most_bytes, until_s=begun_s + longest_s)
    return LinkReport(
        server=server,
        rtt_s=tuple(sorted(rtt_s)),
        rates=tuple(trains.rates),
        clock="server" if trains.by_server_clock else "completions",
        sent_bytes=trains.sent_bytes,
        elapsed_s=time.monotonic() - begun_s,
    )


def train_rate(arrivals: Sequence[tuple[float, int]]) -> float | None:
    """Return the bytes per second of a train of (seconds of arrival, bytes); None if it cannot be told.

    The first message only opens the interval: what came before it is not known.
    """
    ordered = sorted(arrivals)
    if len(ordered) < 2:
        return None
    seconds = ordered[-1][0] - ordered[0][0]
    nbytes = sum(size for _, size in ordered[1:])
    return nbytes / seconds if seconds > 0 else None


def next_train(rate: float | None, most_bytes: int) -> tuple[int, int]:
    """Return (messages, bytes each) of the train that follows one that found `rate`, bytes per second.

    A single train takes about an eighth of `most_bytes`, or on fast links less.
    """
    if rate is None:
        return _SHORTEST_TRAIN, _SMALLEST_MESSAGE
    rate = min(rate, most_bytes / 8 / _TRAIN_S)
    message = min(_LARGEST_MESSAGE, max(_SMALLEST_MESSAGE, int(rate * _TRAIN_S / 16)))
    return min(_LONGEST_TRAIN, max(_SHORTEST_TRAIN, int(rate * _TRAIN_S / message))), message


async def _round_trips(
    stub: InferenceStub, server: str, security: ClientSecurity, *, until_s: float
) -> list[float]:
    taken: list[float] = []
    for number in range(_ROUND_TRIPS + 1):
        sent_s = time.monotonic()
        try:
            await stub.ServerLive(oip.ServerLiveRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:  # refused after a round trip all the same
                refused = await why_refused(error, server=server, model="", security=security)
                raise refused or NetworkError(
                    f"server {server}: {error_text(error)}; is it running, and may this device reach it?"
                ) from None
        # The first one opened the connection.
        if number > 0:
            taken.append(time.monotonic() - sent_s)
        if time.monotonic() > until_s and taken:
            break
    return taken


async def _latent_shape(stub: InferenceStub, model: str) -> tuple[int, ...]:
    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await stub.ModelMetadata(oip.ModelMetadataRequest(name=model), timeout=_CALL_TIMEOUT_S)
        for tensor in answer.inputs if answer is not None else ():
            shape = tuple(max(1, side) for side in tensor.shape)
            if tensor.datatype == "UINT8" and len(shape) == 4:
                return shape
    return 1, 1, 1, 1


class _Trains:
    """Sends trains one after the other and times them."""

    def __init__(self, stub: InferenceStub, shape: tuple[int, ...], model: str) -> None:
        self.rates: list[float] = []
        self.sent_bytes = 0
        self.by_server_clock = True
        self._stub = stub
        self._latent = np.zeros((1, *shape[1:]), np.uint8)
        self._model = model
        self._draws = random.Random(0)

    async def run(self, *, most_bytes: int, until_s: float) -> None:
        rate: float | None = None
        for _ in range(_TRAINS):
            messages, size = next_train(rate, most_bytes)
            if self.sent_bytes + messages * size > most_bytes or time.monotonic() + _TRAIN_S > until_s:
                return
            measured = await self._train(messages, size)
            if measured is None:
                return
            # The shortest train, sent before anything was known, says too little to be counted.
            if rate is not None:
                self.rates.append(measured)
            rate = measured

    async def _train(self, messages: int, size: int) -> float | None:
        requests = [self._request(number, size) for number in range(messages)]
        sizes = [request.ByteSize() for request in requests]
        self.sent_bytes += sum(sizes)
        stamps = await asyncio.gather(*(self._send(request) for request in requests))
        by_server = [(server_s, nbytes) for (server_s, _), nbytes in zip(stamps, sizes, strict=True)]
        if all(server_s is not None for server_s, _ in by_server):
            rate = train_rate([(server_s or 0.0, nbytes) for server_s, nbytes in by_server])
            if rate is not None:
                return rate
        self.by_server_clock = False
        done = [(done_s, nbytes) for (_, done_s), nbytes in zip(stamps, sizes, strict=True) if done_s]
        return train_rate([(done_s or 0.0, nbytes) for done_s, nbytes in done])

    async def _send(self, request: oip.ModelInferRequest) -> tuple[float | None, float | None]:
        """Return when the message arrived by the server's clock, and when its call was over by ours."""
        try:
            answer = parse_answer(await self._stub.ModelInfer(request, timeout=_CALL_TIMEOUT_S))
        except grpc.aio.AioRpcError as error:
            # A refusal comes after the message has crossed; a time-out does not say that it has.
            over = error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
            return None, time.monotonic() if over else None
        received_s = None if answer.received_ns is None else answer.received_ns / 1e9
        return received_s, time.monotonic()

    def _request(self, number: int, size: int) -> oip.ModelInferRequest:
        # No budget: a server of ours stamps the arrival and computes nothing.
        request = latent_request(
            model=self._model, frame_id=f"link-test.{number}", latent_nchw=self._latent, budget_us=0
        )
        padding = max(0, size - request.ByteSize())
        # Random, because a tunnel on the way may compress.
        request.parameters[_PADDING].string_param = self._draws.randbytes((padding + 1) // 2).hex()[:padding]
        return request
