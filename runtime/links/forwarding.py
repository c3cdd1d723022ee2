"""Move bytes between the two sockets of a connection through a shaper; hold back a hasty sender.

Decides nothing about time (see `shaper`) and nothing about who connects to whom (see `proxy`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket

from isthmus.runtime.links.shaper import Shaper
from isthmus.runtime.links.trace import RateTrace

# What one connection may have waiting in front of the bucket: the peak rate over this time, enough that it
# never runs dry between two wake-ups, little enough that a sender soon feels a slow link.
_ROOM_S = 0.02
_LEAST_ROOM, _LARGEST_ROOM = 4_096, 1 << 20
# The loopback's segments of 64 KiB would not fit such a buffer, and its sender would wait for a timer.
_SEGMENT = 1_448


class Direction:
    """A shaper, the timer that empties it, and the sources it holds back."""

    def __init__(self, trace: RateTrace | None, delay_s: float, now_s: float) -> None:
        self.delivered_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._shaper: Shaper[Side] = Shaper(trace, delay_s=delay_s, start_s=now_s)
        self._timer: asyncio.TimerHandle | None = None
        self._full: set[Side] = set()
        self._room_bytes = room_bytes(trace)

    def push(self, sink: Side, data: bytes) -> None:
        """Send `data`, received just now, on its way to `sink`; empty bytes are the end."""
        self._shaper.push(sink, data, self._loop.time())
        if self._shaper.waiting_bytes(sink) > self._room_bytes:
            self._full.add(sink)
            sink.peer.hold("shaper")
        self._wake()

    def retrace(self, trace: RateTrace | None, *, start_s: float | None = None) -> None:
        """Follow `trace`, which began at `start_s` (None: begins now), from now on."""
        self._shaper.retrace(trace, self._loop.time(), start_s=start_s)
        self._room_bytes = room_bytes(trace)
        self._wake()

    def discard(self, sink: Side) -> None:
        """Forget what is on its way to `sink`."""
        self._full.discard(sink)
        self._shaper.discard(sink)

    def stop(self) -> None:
        """Deliver nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self.stop()
        for sink, data in self._shaper.pop(self._loop.time()):
            self.delivered_bytes += len(data)
            sink.deliver(data)
        for sink in list(self._full):
            if self._shaper.waiting_bytes(sink) <= self._room_bytes // 2:
                self._full.discard(sink)
                sink.peer.release("shaper")
        next_s = self._shaper.next_s()
        if next_s is not None and next_s < math.inf:
            self._timer = self._loop.call_at(next_s, self._wake)


class Side(asyncio.Protocol):
    """One socket of a connection; what it receives goes to `peer` by way of `direction`.

    Both must be set before the socket is read.
    """

    peer: Side
    direction: Direction

    def __init__(self) -> None:
        """Start without a socket."""
        self._transport: asyncio.Transport | None = None
        self._held: set[str] = set()
        self._received_end = False
        self._sent_end = False

    @property
    def alive(self) -> bool:
        """Say whether the socket is open."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Put what came on the link."""
        self.direction.push(self.peer, data)

    def eof_received(self) -> bool:
        """Pass the end on behind the bytes before it; keep the socket open for the other way."""
        self._received_end = True
        self.direction.push(self.peer, b"")
        return not self._sent_end

    def pause_writing(self) -> None:
        """Hold the peer back: this socket's receiver does not keep up."""
        self.peer.hold("sink")

    def resume_writing(self) -> None:
        """Let the peer go on."""
        self.peer.release("sink")

    def connection_lost(self, exc: Exception | None) -> None:
        """Cut the peer off as well, unless both ways had ended in order."""
        if self._received_end and self._sent_end:
            return
        self.direction.discard(self.peer)
        self.peer.direction.discard(self)
        self.peer.abort()

    def deliver(self, data: bytes) -> None:
        """Write what came out of the link; empty bytes are the end."""
        if self._transport is None or self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
            return
        self._sent_end = True
        if self._received_end:
            self._transport.close()
        else:
            self._transport.write_eof()

    def abort(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    def hold(self, reason: str) -> None:
        """Stop reading, for `reason`."""
        self._held.add(reason)
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self, reason: str) -> None:
        """Read again, once every reason is gone."""
        self._held.discard(reason)
        if not self._held and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def room_bytes(trace: RateTrace | None) -> int:
    """Return the bytes of a connection that may wait in front of a link of this rate."""
    if trace is None:
        return _LARGEST_ROOM
    return int(min(_LARGEST_ROOM, max(_LEAST_ROOM, trace.peak_rate * _ROOM_S)))


def shrink(sock: socket.socket, *, receive_bytes: int, send_bytes: int) -> None:
    """Give `sock` small buffers, so that a sender feels the emulated link and not the kernel's memory.

    To be announced to the other end they must be set before the handshake. The sender's own kernel still
    holds what its own buffer takes.
    """
    # asyncio leaves Nagle's algorithm on for sockets it did not make; a quantum would wait 40 ms for the
    # acknowledgement of the one before it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
    with contextlib.suppress(OSError):  # some systems forbid it; the window then closes a little late
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
