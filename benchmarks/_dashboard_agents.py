"""Event streams of many made-up agents, as a process of its own: `python -m benchmarks._dashboard_agents`.

Reads one JSON line from standard input: {"agents", "fps", "seconds", "folder"} writes logs into the folder,
{..., "url", "token_file"} posts them instead, as often as the dashboard asks. Prints "ready" when every agent
has begun. Events are those of real agents, in real time, from a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import msgspec

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import FrameEvent, LinkEvent, Outcome, RunEvent

_WIDTHS = (0.25, 0.5, 0.75, 1.0)
_LATENCY_S = {"remote": 0.045, "exit": 0.012, "local": 0.03, "late": 0.2}
# Agents were not all started at once.
_SPREAD_S = 4.0
_encode = msgspec.json.Encoder().encode


class MadeUpAgent:
    """One agent; `events` returns what it has to say of the time up to an instant."""

    def __init__(self, number: int, fps: float) -> None:
        self.name = f"device-{number:04d}"
        self._random = random.Random(number)
        self._fps = fps
        self._frame = 0
        self._began_s = time.monotonic() - self._random.random() / fps
        self._rate = 10 ** self._random.uniform(3.5, 5.5)
        self._joules = 0.0
        self.first = _encode(
            RunEvent(
                at_s=self._began_s, unix_s=time.time(), bundle="made-up", bundle_digest="ab" * 32,
                source="camera:0", policy="expected-utility", server="server:8001", deadline_s=0.15, fps=fps,
                widths=_WIDTHS, labels=("a", "b"), teacher_utility=0.9, isthmus_version="made-up",
                agent=self.name,
            )
        ) + b"\n"  # fmt: skip

    def events(self, now_s: float) -> bytes:
        """Return the lines of every frame that ended by `now_s`, and one of the link."""
        lines = []
        while (at_s := self._began_s + (self._frame + 1) / self._fps) <= now_s:
            lines.append(_encode(self._end(at_s)))
            self._frame += 1
        self._rate *= 1.08 ** self._random.uniform(-1.0, 1.0)
        self._joules += 3.2
        out = self.name.endswith("7") and int(now_s) % 40 < 6
        lines.append(
            _encode(
                LinkEvent(
                    at_s=now_s, connected=not out, rate_bytes_per_s=0.0 if out else self._rate, rtt_s=0.02,
                    backlog_bytes=0, energy_j=self._joules, energy_source="model:made-up",
                    server="server:8001",
                    temperature_c=55.0, throttled=self.name.endswith("13"),
                )
            )
        )  # fmt: skip
        return b"\n".join(lines) + b"\n"

    def _end(self, at_s: float) -> FrameEvent:
        draw = self._random.random()
        share = min(0.95, self._rate / 4e4)
        outcome: Outcome = (
            "remote" if draw < share else "exit" if draw < 0.98 else "late" if draw < 0.99 else "dropped"
        )
        width = min(3, int(4 * share))
        latency_s = None if outcome == "dropped" else _LATENCY_S[outcome] * self._random.uniform(0.6, 1.8)
        return FrameEvent(
            at_s=at_s, frame=self._frame, captured_s=at_s - 0.03, outcome=outcome,
            point=OperatingPoint(width, 4 * (width + 1)), payload_bytes=140 if outcome == "remote" else 0,
            answer=1, truth=1, latency_s=latency_s, wait_s=0.0004, head_s=0.008, encode_s=0.0003,
            send_s=0.0001,
            remote_s=0.03 if outcome == "remote" else None, server_queue_s=0.001, server_compute_s=0.002,
            reason="99% in time with 140 B at 22 kB/s, 0 B queued",
        )  # fmt: skip


async def _write(agents: list[MadeUpAgent], folder: Path, seconds: float) -> None:
    files = [(folder / f"{agent.name}.jsonl").open("ab", buffering=0) for agent in agents]
    for agent, file in zip(agents, files, strict=True):
        file.write(agent.first)
    _say_ready()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        # A tenth of them every tenth of a second: each writes once a second, as its link event is due.
        for part in range(10):
            now_s = time.monotonic()
            for agent, file in zip(agents[part::10], files[part::10], strict=True):
                file.write(agent.events(now_s))
            await asyncio.sleep(max(0.0, now_s + 0.1 - time.monotonic()))


async def _post(agents: list[MadeUpAgent], url: str, token: str, seconds: float) -> None:
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_post_one(agent, url, token, seconds, begun)) for agent in agents]
    for _ in agents:
        await begun.acquire()
    _say_ready()
    await asyncio.gather(*tasks)


async def _post_one(
    agent: MadeUpAgent, url: str, token: str, seconds: float, begun: asyncio.Semaphore
) -> None:
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    end_s = time.monotonic() + seconds
    await asyncio.sleep(random.random() * _SPREAD_S)
    reader, writer = await asyncio.open_connection(host, int(port))
    while time.monotonic() < end_s:
        body = agent.first + agent.events(time.monotonic())
        head = (
            f"POST /api/events/{agent.name} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {token}\r\n"
            f"Content-Type: application/x-ndjson\r\nIsthmus-Run: {'ab' * 8}\r\n"
            f"Isthmus-Now-S: {time.monotonic():.6f}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        every_s = await _answer(reader)
        begun.release()
        await asyncio.sleep(every_s)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> float:
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in headers if line.startswith(b"content-length:"))
    said = await reader.readexactly(length)
    if b" 200 " not in status:
        raise SystemExit(f"the dashboard refuses: {said.decode()}")
    every_s: float = json.loads(said)["every_s"]
    return every_s


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def main() -> None:
    """Do what standard input says."""
    told = json.loads(sys.stdin.readline())
    agents = [MadeUpAgent(number, told["fps"]) for number in range(told["agents"])]
    if "folder" in told:
        asyncio.run(_write(agents, Path(told["folder"]), told["seconds"]))
    else:
        token = Path(told["token_file"]).read_text().strip()
        asyncio.run(_post(agents, told["url"], token, told["seconds"]))


if __name__ == "__main__":
    main()
