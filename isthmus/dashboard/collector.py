"""Everything the dashboard knows, kept up to date, and the one message a second that all pages share.

Decides when logs are looked at and when pages are told. Lives on the event loop; files are read on a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import msgspec

import isthmus
from isthmus.dashboard.alarms import AlarmBook, alarm_marks, findings
from isthmus.dashboard.controls import Controls
from isthmus.dashboard.fleet import Fleet
from isthmus.dashboard.follow import Follower, Grown
from isthmus.dashboard.scraping import scrape
from isthmus.dashboard.servers import Server
from isthmus.dashboard.settings import DashboardSettings
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import Event

TICK_S = 1.0
# Often enough that a changed point is seen well within a second.
_LOOK_S = 0.2
# Beyond it a stranger with a token could fill the memory with names.
_MOST_DEVICES = 5000
# Another run under the same name is taken once the one before has been silent for so long.
_TAKEOVER_S = 10.0

_encode = msgspec.json.Encoder().encode


class Collector:
    """Follows, scrapes and asks until it is stopped.

    Args:
        settings: What the dashboard was told.

    Attributes:
        fleet: The devices.
        servers: The servers.
        controls: What can be steered.
        stopping: Set when every page is to be let go.
    """

    def __init__(self, settings: DashboardSettings) -> None:
        self.fleet = Fleet()
        self.servers = [Server(url) for url in settings.metrics]
        self.controls = Controls(settings.controls)
        self.stopping = asyncio.Event()
        self._follower = Follower(settings.paths)
        self._book = AlarmBook()
        self._spoilt: dict[str, int] = {}
        self._posting: dict[str, tuple[str, float]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._number = 0
        self._tick = b""
        self._roster = b""
        self._roster_version = -1
        self._began_unix_s = time.time()

    def start(self) -> None:
        """Begin."""
        self.fleet.tick(time.monotonic())
        work: list[Coroutine[Any, Any, None]] = [self._follow(), self._keep_ticking()]
        if self.servers:
            work.append(scrape(self.servers))
        if self.controls.all:
            work.append(self.controls.keep_asking())
        self._tasks = [asyncio.create_task(task) for task in work]

    async def stop(self) -> None:
        """End; pages are let go first."""
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._follower.close()

    def release(self) -> None:
        """Let every page go."""
        self.stopping.set()
        self._waker = asyncio.ensure_future(self._wake())

    def take_post(self, name: str, run_id: str, events: Sequence[Event], now_of_agent_s: float) -> None:
        """Take the events that agent `name` has sent; `now_of_agent_s` is its monotonic clock at sending.

        Raises:
            InputError: If another agent of that name is heard, or there are too many.
        """
        now_s = time.monotonic()
        before = self._posting.get(name)
        if before is not None and before[0] != run_id:
            device = self.fleet.devices.get(name)
            if now_s - before[1] < _TAKEOVER_S and not (device is not None and device.ended):
                raise InputError(f"another agent sends as {name!r}; give this one a --name of its own")
        if name not in self.fleet.devices and len(self.fleet.devices) >= _MOST_DEVICES:
            raise InputError(f"{_MOST_DEVICES} devices are shown already; start another dashboard")
        self._posting[name] = run_id, now_s
        self.fleet.take(name, events, shift_s=now_s - now_of_agent_s)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what a page is told, as server-sent events: the roster when it changes, a tick a second.

        A page that is slow misses ticks, and holds up nobody.
        """
        seen, version = -1, -1
        while not self.stopping.is_set():
            if self._number > seen:
                seen = self._number
                if version != self._roster_version:
                    version = self._roster_version
                    yield _message("roster", self._roster)
                yield _message("tick", self._tick)
            async with self._changed:
                while self._number == seen and not self.stopping.is_set():
                    await self._changed.wait()

    def refresh(self) -> None:
        """Compute the message of this instant."""
        now_s, now_unix_s = time.monotonic(), time.time()
        fleet = self.fleet
        fleet.tick(now_s)
        found = findings(fleet, self.servers, now_s=now_s, now_unix_s=now_unix_s)
        self._book.update(found, now_s=now_s, now_unix_s=now_unix_s)
        if fleet.version != self._roster_version or not self._roster:
            self._roster_version = fleet.version
            began = self._began_unix_s
            version = isthmus.__version__
            self._roster = _encode({"devices": fleet.roster(), "version": version, "began_unix_s": began})
        columns = fleet.columns(now_s)
        columns["alarm"] = alarm_marks(self._book, list(fleet.devices))
        self._tick = _encode(
            {
                "unix_s": now_unix_s,
                "roster": self._roster_version,
                "totals": fleet.totals(now_s),
                "devices": columns,
                "servers": [server.shown() for server in self.servers],
                "alarms": self._book.shown(),
                "controls": self.controls.shown(),
                "spoilt": sum(self._spoilt.values()),
            }
        )
        self._number += 1

    async def _follow(self) -> None:
        while True:
            began_s = time.monotonic()
            for grown in await asyncio.to_thread(self._look, began_s):
                self.fleet.take(str(grown.path), grown.events, shift_s=grown.shift_s, log=grown.path)
                self._spoilt[str(grown.path)] = grown.spoilt
            # However many logs there are, looking at them takes at most a small share of the time.
            took_s = time.monotonic() - began_s
            await asyncio.sleep(max(_LOOK_S, 4 * took_s))

    def _look(self, now_s: float) -> list[Grown]:
        return list(self._follower.grown(now_s))

    async def _keep_ticking(self) -> None:
        while True:
            self.refresh()
            await self._wake()
            await asyncio.sleep(TICK_S - time.monotonic() % TICK_S)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _message(kind: str, data: bytes) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
