"""Many streams to a real server from one process, each with its own clock: the live side of `fleet`.

Run as a program of its own: `python _fleet_streams.py JSON`, with what `Orders` says. Prints one line of
JSON, the frames as rows of numbers. Every stream is one connection; it sends payloads that were made
beforehand at fixed intervals, keeps quiet after a refusal as an agent does, and does nothing with answers but
log them.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from isthmus.runtime.session import FullJitter
from isthmus.runtime.wire import CHANNEL_OPTIONS, InferenceStub, parse_stream_answer, payload_request

OUTCOMES = ("ok", "expired", "busy", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What this process is to do.

    Attributes:
        server: HOST:PORT.
        model: The model's name there.
        payloads: Payloads in hexadecimal, sent in turn.
        streams, fps, deadline_s: How many, how often, with which budget.
        start_s, seconds: From which instant of the monotonic clock, and for how long.
        seed: Of phases and pauses.
    """

    server: str
    model: str
    payloads: list[str]
    streams: int
    fps: float
    deadline_s: float
    start_s: float
    seconds: float
    seed: int


# A frame: captured, sent, received by the server, its batch begun, seconds computed, answer here, outcome;
# instants in seconds of the host's monotonic clock, which all processes share; 0 where there was none.
Row = list[float]


class _Stream:
    def __init__(self, orders: Orders, number: int) -> None:
        self.rows: list[Row] = []
        self.quiet = 0
        self._orders = orders
        self._payloads = [bytes.fromhex(payload) for payload in orders.payloads]
        self._rng = random.Random(f"{orders.seed} {number}")
        self._backoff = FullJitter(base_s=0.05, cap_s=1.0, rng=self._rng)
        self._quiet_until_s = -math.inf

    async def run(self) -> None:
        orders = self._orders
        async with grpc.aio.insecure_channel(orders.server, options=CHANNEL_OPTIONS) as channel:
            await channel.channel_ready()
            call = InferenceStub(channel).ModelStreamInfer()
            reader = asyncio.create_task(self._read(call))
            phase_s = self._rng.random() / orders.fps
            for number in range(math.floor(orders.seconds * orders.fps)):
                due_s = orders.start_s + phase_s + number / orders.fps
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await self._send(call, number, due_s)
            await asyncio.sleep(max(1.0, 2 * orders.deadline_s))
            call.cancel()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _send(self, call: Any, number: int, due_s: float) -> None:
        now_s = time.monotonic()
        row = [due_s, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]
        self.rows.append(row)
        if now_s < self._quiet_until_s:
            self.quiet += 1
            return
        row[1] = now_s
        budget_s = due_s + self._orders.deadline_s - now_s
        if budget_s <= 0:
            return
        await call.write(
            payload_request(
                model=self._orders.model,
                frame_id=str(number),
                payloads=[self._payloads[number % len(self._payloads)]],
                budget_us=int(budget_s * 1e6),
            )
        )

    async def _read(self, call: Any) -> None:
        while True:
            message = await call.read()
            now_s = time.monotonic()
            if message is grpc.aio.EOF:
                return
            answer = parse_stream_answer(message)
            received_s = (answer.received_ns or 0) / 1e9
            row = self.rows[int(answer.frame_id)]
            row[2] = received_s
            row[3] = received_s + (answer.queue_s or 0.0)
            row[4] = answer.compute_s or 0.0
            row[5] = now_s
            row[6] = float(OUTCOMES.index(answer.outcome))
            if answer.outcome == "busy":
                self._quiet_until_s = now_s + self._backoff.next_s()
            else:
                self._backoff.reset()


async def _run(orders: Orders) -> dict[str, Any]:
    streams = [_Stream(orders, number) for number in range(orders.streams)]
    await asyncio.gather(*(stream.run() for stream in streams))
    return {
        "rows": [row for stream in streams for row in stream.rows],
        "quiet": sum(stream.quiet for stream in streams),
    }


def main() -> None:
    """Do as the first argument says."""
    json.dump(asyncio.run(_run(Orders(**json.loads(sys.argv[1])))), sys.stdout)


if __name__ == "__main__":
    main()
