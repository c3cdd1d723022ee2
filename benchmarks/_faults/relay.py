"""A TCP relay that loses track of its connections, as a NAT or a router does that restarts.

Old connections then stay open and carry nothing; no end ever hears of it. Connections made meanwhile wait and
are carried from the return on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any


class Relay:
    """Listens on `port` of loopback and forwards to `target_port`; runs on a thread of its own."""

    def __init__(self, target_port: int) -> None:
        """Listen."""
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        # Connections of an earlier generation than the present one carry nothing any more.
        self._generation = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self.port: int = self._call(self._listen())

    def lose(self) -> None:
        """Forget every connection, and carry no new one until `back`."""
        self._call(self._set(lost=True))

    def back(self) -> None:
        """Carry the connections made since, and those to come."""
        self._call(self._set(lost=False))

    def close(self) -> None:
        """Cut everything."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _set(self, *, lost: bool) -> None:
        if lost:
            self._generation += 1
            self._open.clear()
        else:
            self._open.set()

    async def _end(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self._open.wait()
        born = self._generation
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._carry(reader, far_writer, born), self._carry(far_reader, writer, born))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: int) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if born == self._generation:
                    writer.write(data)
                    await writer.drain()
        # The end of a connection that nobody knows any more is not passed on either.
        if born == self._generation:
            writer.transport.abort()
