"""Real loopback sockets for the proxy: a target that notes when bytes came, and echoes them if asked."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isthmus.runtime.links import ShapingProxy


class Target:
    """A TCP server that notes every arrival."""

    def __init__(self):
        self.arrivals = []  # (monotonic seconds, connection, bytes)
        self.connections = 0
        self.ended = 0
        self._tasks = set()
        self._changed = asyncio.Condition()

    async def serve(self, reader, writer, *, echo):
        self._tasks.add(asyncio.current_task())
        connection = self.connections
        self.connections += 1
        try:
            while data := await reader.read(65536):
                async with self._changed:
                    self.arrivals.append((time.monotonic(), connection, data))
                    self._changed.notify_all()
                if echo:
                    writer.write(data)
                    await writer.drain()
            async with self._changed:
                self.ended += 1
                self._changed.notify_all()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(asyncio.current_task())

    @property
    def total(self):
        return sum(len(data) for _, _, data in self.arrivals)

    async def until(self, condition, timeout_s=5.0):
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(condition), timeout_s)

    async def close(self):
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)


@pytest.fixture
def proxied():
    """Return `async with proxied(trace, ...) as (target, connect, proxy)`."""

    @asynccontextmanager
    async def run(trace, *, echo=False, **options):
        target = Target()
        server = await asyncio.start_server(
            lambda reader, writer: target.serve(reader, writer, echo=echo), "127.0.0.1", 0
        )
        proxy = ShapingProxy(trace, **options)
        port = await proxy.start("127.0.0.1", 0, "127.0.0.1", server.sockets[0].getsockname()[1])
        writers = []

        async def connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            return reader, writer

        try:
            yield target, connect, proxy
        finally:
            for writer in writers:
                writer.transport.abort()
            await proxy.close()
            server.close()
            await target.close()

    return run


@pytest.fixture(scope="session")
def recorded_traces():
    root = Path(os.environ.get("ISTHMUS_DATA", Path(__file__).parents[4] / "shared" / "data")) / "traces"
    if not root.is_dir():
        pytest.skip("needs the recorded traces (ISTHMUS_DATA or ../shared/data)")
    return root
