"""A TCP forwarder between two real processes that shapes what passes through it.

It needs no privileges. It terminates TCP, so it cannot emulate loss, and handshakes are not delayed: a figure
taken over it says "proxy".
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from isthmus.runtime.errors import NetworkError
from isthmus.runtime.events import EventLog, ShapeEvent
from isthmus.runtime.links.forwarding import Direction, Side, room_bytes, shrink
from isthmus.runtime.links.rate_log import logged_rates
from isthmus.runtime.links.trace import RateTrace


class _ClientSide(Side):
    """The accepted socket: nothing is read from it before its way to the target is open."""

    def __init__(self, proxy: ShapingProxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Python 3.10 begins to read after this method even if it paused, and then takes a second pause for
        # granted: the sender would never feel the link. The next turn comes before any byte is read.
        asyncio.get_running_loop().call_soon(self.hold, "opening")
        self._proxy.accepted(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.closed(self)
        super().connection_lost(exc)


class ShapingProxy:
    """Forwards TCP connections to a target over one emulated link that all of them share.

    The trace begins with the first connection, so that a run does not depend on how long its start took.
    """

    def __init__(
        self,
        uplink: RateTrace | None,
        *,
        downlink: RateTrace | None = None,
        delay_s: float = 0.0,
        events: EventLog | None = None,
    ) -> None:
        """Set the link.

        Args:
            uplink: The rate towards the target; None for no limit.
            downlink: The rate back; None for no limit.
            delay_s: Seconds added one way, in each direction.
            events: Takes a `ShapeEvent` whenever the uplink's rate changes, at most ten a second.
        """
        self._uplink, self._downlink = uplink, downlink
        self._delay_s = delay_s
        self._events = events
        self._server: asyncio.Server | None = None
        self._target = ("", 0)
        self._directions: tuple[Direction, Direction] | None = None
        self._clients: set[_ClientSide] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._start_s = 0.0
        self._set_rate: float | None = None
        self._logging: asyncio.Task[None] | None = None
        self.connections = 0

    @property
    def set_rate_bytes_per_s(self) -> float | None:
        """The rate that replaces the uplink's trace; None: the trace holds."""
        return self._set_rate

    @property
    def rate_bytes_per_s(self) -> float | None:
        """The uplink's rate at this instant; None: no limit."""
        if self._set_rate is not None or self._uplink is None:
            return self._set_rate
        if self._directions is None:
            return self._uplink.rate_at(0.0)
        return self._uplink.rate_at(asyncio.get_running_loop().time() - self._start_s)

    def set_rate(self, rate_bytes_per_s: float | None) -> None:
        """Replace the uplink's trace by a constant rate from now on; None: the trace holds again.

        A trace goes on as if it had never been replaced. What is under way goes on at the new rate.
        """
        self._set_rate = rate_bytes_per_s
        if self._directions is not None:
            up, _ = self._directions
            up.retrace(self._effective, start_s=None if rate_bytes_per_s is not None else self._start_s)
            self._log_rates()

    @property
    def _effective(self) -> RateTrace | None:
        return self._uplink if self._set_rate is None else RateTrace([(1.0, self._set_rate)], name="set")

    @property
    def delivered_bytes(self) -> tuple[int, int]:
        """Bytes that came out of the uplink and of the downlink."""
        if self._directions is None:
            return 0, 0
        up, down = self._directions
        return up.delivered_bytes, down.delivered_bytes

    async def start(self, listen_host: str, listen_port: int, target_host: str, target_port: int) -> int:
        """Listen, and return the port (that which the system chose if `listen_port` is 0).

        Raises:
            NetworkError: If the address cannot be bound.
        """
        self._target = (target_host, target_port)
        try:
            listener = await self._listen(listen_host, listen_port)
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _ClientSide(self), sock=listener
            )
        except OSError as error:
            cause = error.strerror or error
            raise NetworkError(f"{listen_host}:{listen_port}: {cause}; listen on another address") from None
        port: int = listener.getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for direction in self._directions or ():
            direction.stop()

    def accepted(self, client: _ClientSide) -> None:
        """Open the way to the target for a new connection."""
        self.connections += 1
        self._clients.add(client)
        if self._directions is None:
            self._begin()
        assert self._directions is not None
        server = Side()
        client.peer, server.peer = server, client
        client.direction, server.direction = self._directions
        self._run(self._open(client, server))

    def closed(self, client: _ClientSide) -> None:
        """Forget a connection."""
        self._clients.discard(client)

    def _begin(self) -> None:
        self._start_s = now_s = asyncio.get_running_loop().time()
        self._directions = (
            Direction(self._effective, self._delay_s, now_s),
            Direction(self._downlink, self._delay_s, now_s),
        )
        self._log_rates()

    def _log_rates(self) -> None:
        if self._logging is not None:
            self._logging.cancel()
            self._logging = None
        trace = self._effective
        if self._events is not None and trace is not None:
            now_s = asyncio.get_running_loop().time()
            start_s = self._start_s if self._set_rate is None else now_s
            self._logging = self._run(_log_rate(self._events, trace, start_s, from_s=now_s - start_s))

    async def _open(self, client: Side, server: Side) -> None:
        host, port = self._target
        try:
            sock = await self._connect(host, port)
            await asyncio.get_running_loop().create_connection(lambda: server, sock=sock)
        except OSError:
            client.abort()  # as a target that is down looks to its client
            return
        if client.alive:
            client.release("opening")
        else:
            server.abort()

    async def _listen(self, host: str, port: int) -> socket.socket:
        family, address = await _resolve(host, port)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit them.
            shrink(listener, receive_bytes=room_bytes(self._uplink), send_bytes=room_bytes(self._downlink))
            listener.bind(address)
        except OSError:
            listener.close()
            raise
        return listener

    async def _connect(self, host: str, port: int) -> socket.socket:
        family, address = await _resolve(host, port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            shrink(sock, receive_bytes=room_bytes(self._downlink), send_bytes=room_bytes(self._uplink))
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    return family, address


async def _log_rate(events: EventLog, trace: RateTrace, start_s: float, *, from_s: float) -> None:
    loop = asyncio.get_running_loop()
    for at_s, rate in logged_rates(trace, from_s=from_s):
        await asyncio.sleep(max(0.0, start_s + at_s - loop.time()))
        events.write(ShapeEvent(at_s=start_s + at_s, rate_bytes_per_s=rate))
