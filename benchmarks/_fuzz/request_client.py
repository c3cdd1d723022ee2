"""Sends fuzzed requests to a server and judges what comes back.

Every call ends with a status that is documented; a stream answers what it has read, once each. Meanwhile the
server's health and a well-formed frame are asked after again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from _fuzz.request_inputs import RequestInput, RequestInputs
from isthmus.runtime.errors import WireError
from isthmus.runtime.wire import (
    MAX_MESSAGE_BYTES,
    SERVICE_NAME,
    channel_options,
    oip,
    parse_answer,
    parse_stream_answer,
)

# docs/how-to/tls.md. UNAVAILABLE, INTERNAL, UNKNOWN would be the server's failure, DEADLINE_EXCEEDED a hang.
DOCUMENTED = frozenset(
    grpc.StatusCode[name]
    for name in (
        *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
        *("UNIMPLEMENTED", "PERMISSION_DENIED"),
    )
)
HANG_S = 60.0
_AT_ONCE = 8
_ASK_EVERY = 500
_LONGEST_DETAILS = 500
_MOST_VIOLATIONS = 20


@dataclass(slots=True)
class RequestVerdicts:
    """What came of the calls so far.

    Attributes:
        calls: How many calls were made.
        messages: How many messages they had; a stream has several.
        statuses: How many calls, by method and status.
        outcomes: How many answers, by outcome.
        cut_off: Messages without an answer of streams that gRPC ended in the server's stead, for one was too
            long: what was accepted before it may have been answered into the void.
        asked: How often the server was asked after, and answered as it should.
        slowest_s: Longest time of one call.
        violations: Calls that broke a rule, with the rule; the first ones.
    """

    calls: int = 0
    messages: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    asked: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return it as plain figures."""
        return {
            "calls": self.calls,
            "messages": self.messages,
            "statuses": dict(sorted(self.statuses.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "cut_off": self.cut_off,
            "asked_after": self.asked,
            "slowest_call_s": round(self.slowest_s, 3),
            "violations": self.violations,
        }


class RequestClient:
    """Sends calls to the server at `address`, several at once, and judges them."""

    def __init__(self, address: str, inputs: RequestInputs) -> None:
        """Take calls from `inputs`; use it as an asynchronous context manager."""
        self.verdicts = RequestVerdicts()
        self._inputs = inputs
        options = channel_options(4 * MAX_MESSAGE_BYTES)
        self._channel = grpc.aio.insecure_channel(address, options=options)
        # The other kind: a stream of grpc.aio that the server has ended while it is still written to reports
        # an internal error of its own and not the server's status.
        self._stream_channel = grpc.insecure_channel(address, options=options)

    async def __aenter__(self) -> RequestClient:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._channel.close()
        self._stream_channel.close()

    async def send(self, calls: int, *, until_s: float) -> None:
        """Make at most `calls` calls before `until_s` (monotonic)."""
        wanted = self.verdicts.calls + calls

        async def some() -> None:
            while self.verdicts.calls < wanted and time.monotonic() < until_s:
                one = self._inputs.next()
                self.verdicts.calls += 1
                self.verdicts.messages += len(one.messages)
                due = self.verdicts.calls % _ASK_EVERY == 0
                await self._judge(one)
                if due:
                    await self._ask_after()

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        await self._ask_after()

    async def _judge(self, one: RequestInput) -> None:
        started_s = time.monotonic()
        try:
            status, details = await (
                asyncio.to_thread(self._stream, one) if one.is_stream else self._single(one)
            )
        except WireError as error:
            self._violated(one, f"an answer is malformed: {error}")
            return
        self.verdicts.slowest_s = max(self.verdicts.slowest_s, time.monotonic() - started_s)
        self.verdicts.statuses[f"{one.method} {status.name}"] += 1
        if status not in DOCUMENTED:
            self._violated(one, f"{status.name}: {details[:200]}")
        elif status is not grpc.StatusCode.OK and (
            "\n" in details or not 0 < len(details) <= _LONGEST_DETAILS
        ):
            self._violated(one, f"{status.name} with {len(details)} characters: {details[:80]!r}")

    async def _single(self, one: RequestInput) -> tuple[grpc.StatusCode, str]:
        call = self._channel.unary_unary(f"/{SERVICE_NAME}/{one.method}")(one.messages[0], timeout=HANG_S)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        if one.method == "ModelInfer":
            self._count(parse_answer(oip.ModelInferResponse.FromString(answer)).outcome)
        return grpc.StatusCode.OK, ""

    def _stream(self, one: RequestInput) -> tuple[grpc.StatusCode, str]:
        call = self._stream_channel.stream_stream(f"/{SERVICE_NAME}/ModelStreamInfer")(
            iter(one.messages), timeout=HANG_S
        )
        outcomes = []
        try:
            for answer in call:
                outcomes.append(parse_stream_answer(oip.ModelStreamInferResponse.FromString(answer)).outcome)
        except grpc.RpcError:
            pass  # its status is asked for below
        status = call.code()
        self.verdicts.outcomes.update(outcomes)
        if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.verdicts.cut_off += len(one.messages) - len(outcomes)
        if len(outcomes) > len(one.messages) or (
            status is grpc.StatusCode.OK and len(outcomes) != len(one.messages)
        ):
            self._violated(one, f"{len(outcomes)} answers to {len(one.messages)} messages, {status.name}")
        return status, call.details() or ""

    async def _ask_after(self) -> None:
        health = health_pb2_grpc.HealthStub(self._channel)
        state = await health.Check(health_pb2.HealthCheckRequest(), timeout=HANG_S)
        good = RequestInput("ModelInfer", "good", (self._inputs.good,))
        before = self.verdicts.outcomes["ok"]
        status, details = await self._single(good)
        if state.status != health_pb2.HealthCheckResponse.SERVING:
            self._violated(good, "the server does not call itself healthy")
        elif status is not grpc.StatusCode.OK or self.verdicts.outcomes["ok"] <= before:
            self._violated(good, f"a well-formed frame: {status.name} {details}")
        self.verdicts.asked += 1

    def _count(self, outcome: str) -> None:
        self.verdicts.outcomes[outcome] += 1

    def _violated(self, one: RequestInput, rule: str) -> None:
        if len(self.verdicts.violations) < _MOST_VIOLATIONS:
            sent = " ".join(message[:200].hex() for message in one.messages)
            self.verdicts.violations.append(f"{one.method} {one.kind} {sent}: {rule}")
