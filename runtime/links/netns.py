"""A link between this host and a network namespace, shaped packet by packet: real TCP end to end.

Two TUN devices, one on each side, and a thread that carries packets between them as `PacketLink` says. Unlike
the proxy it terminates nothing, so loss and a full queue are what TCP really meets. The kernel's shapers are
not used: changed every 100 ms to follow a trace of 20 and 40 kB/s, `tc tbf` carried 1.44 times the trace
(every change refills its bucket) and `htb` 0.83 times; and many kernels lack `netem`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from isthmus.runtime.events import EventLog, ShapeEvent
from isthmus.runtime.links.packets import PacketLink
from isthmus.runtime.links.rate_log import logged_rates
from isthmus.runtime.links.trace import RateTrace
from isthmus.runtime.links.tun import (
    TunDevice,
    check_supported,
    configure,
    dying_with_parent,
    enter_new_namespace,
    open_tun,
)

T = TypeVar("T")

_NAME = "isth%d"
# Packets taken from one device in a row, before what is due goes out.
_IN_A_ROW = 64
_LONGEST_SLEEP_S = 0.5


class NamespaceLink:
    """A context manager that holds the namespace and carries its packets.

    Args:
        uplink: The rate out of the namespace, headers included; None for no limit.
        downlink: The rate into it.
        delay_s: Seconds added one way, in each direction.
        loss: Share of packets lost, in each direction.
        queue_bytes: What may wait in front of each direction.
        events: Takes the uplink's true rate, from the first packet on.

    Attributes:
        host: This host's address as the namespace sees it: where servers are reached.
        inside: The namespace's address as this host sees it.
        up, down: The two directions, with their counts.
    """

    def __init__(
        self,
        uplink: RateTrace | None,
        *,
        downlink: RateTrace | None = None,
        delay_s: float = 0.0,
        loss: float = 0.0,
        queue_bytes: int = 128_000,
        events: EventLog | None = None,
    ) -> None:
        self.up = PacketLink(uplink, delay_s=delay_s, loss=loss, queue_bytes=queue_bytes, seed=1)
        self.down = PacketLink(downlink, delay_s=delay_s, loss=loss, queue_bytes=queue_bytes, seed=2)
        self.host = self.inside = ""
        self._rates = logged_rates(uplink) if uplink is not None and events is not None else None
        self._next_rate: tuple[float, float] | None = None
        self._events = events
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> NamespaceLink:
        """Make the namespace and begin to carry packets.

        Raises:
            InputError: If this is not root on Linux, or a tool or driver is missing.
            NetworkError: If the kernel refuses.
        """
        check_supported()
        with self._stack as stack:
            ours = open_tun(_NAME)
            stack.callback(os.close, ours.descriptor)
            self.host, self.inside = _addresses(ours.name)
            # A namespace is a thread's: whatever this one starts or opens lives inside.
            self._thread = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="netns"))
            self.call(enter_new_namespace)
            theirs = self.call(partial(open_tun, _NAME))
            stack.callback(os.close, theirs.descriptor)
            self.call(partial(configure, theirs, address=self.inside, peer=self.host))
            configure(ours, address=self.host, peer=self.inside)
            carrier = threading.Thread(target=self._carry, args=(ours, theirs), name="netns-carry")
            carrier.start()
            stack.callback(carrier.join)
            stack.callback(self._stop.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and let the namespace go."""
        self._stack.close()

    def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, called inside the namespace."""
        return self._thread.submit(function).result()

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process inside the namespace; it ends with this one, even if this one is killed.

        Args:
            command: Program and arguments.
            **options: Passed on to `subprocess.Popen`.

        Raises:
            InputError: If there is no such program.
        """
        return self.call(partial(subprocess.Popen, dying_with_parent(command), **options))

    def _carry(self, ours: TunDevice, theirs: TunDevice) -> None:
        """Carry packets until told to stop."""
        ways = {
            theirs.descriptor: (self.up, ours.descriptor),
            ours.descriptor: (self.down, theirs.descriptor),
        }
        # select(2) counts microseconds; epoll would round every wait up to a millisecond.
        with selectors.SelectSelector() as ready:
            for descriptor in ways:
                ready.register(descriptor, selectors.EVENT_READ)
            while not self._stop.is_set():
                now_s = time.monotonic()
                for link, sink in ways.values():
                    for packet in link.pop(now_s):
                        with contextlib.suppress(OSError):  # a device that is down, a full socket: as lost
                            os.write(sink, packet)
                due_s = min(self._log_rate(now_s), *(link.next_s() for link, _ in ways.values()))
                for key, _ in ready.select(max(0.0, min(due_s - time.monotonic(), _LONGEST_SLEEP_S))):
                    _take(key.fd, ways[key.fd][0])

    def _log_rate(self, now_s: float) -> float:
        """Log the uplink's rate where it has changed; return when it changes next."""
        begun_s = self.up.begun_s
        if self._rates is None or self._events is None or begun_s is None:
            return now_s + _LONGEST_SLEEP_S
        if self._next_rate is None:
            self._next_rate = next(self._rates, None)
        while self._next_rate is not None and begun_s + self._next_rate[0] <= now_s:
            at_s, rate = self._next_rate
            self._events.write(ShapeEvent(at_s=begun_s + at_s, rate_bytes_per_s=rate))
            self._next_rate = next(self._rates, None)
        return now_s + _LONGEST_SLEEP_S if self._next_rate is None else begun_s + self._next_rate[0]


def _take(descriptor: int, link: PacketLink) -> None:
    for _ in range(_IN_A_ROW):
        try:
            packet = os.read(descriptor, 65_536)
        except (BlockingIOError, OSError):
            return
        # The kernel asks for IPv6 routers on every new device; the trace must not begin with that.
        if packet[:1] and packet[0] >> 4 == 4:
            link.push(packet, time.monotonic())


def _addresses(name: str) -> tuple[str, str]:
    """Return both ends' addresses, from the range kept for benchmarks (RFC 2544), by the device's number."""
    number = int(name.removeprefix(_NAME.partition("%")[0]))
    net = number % 32_768
    prefix = f"198.{18 + net // 16_384}.{net // 64 % 256}"
    return f"{prefix}.{net % 64 * 4 + 1}", f"{prefix}.{net % 64 * 4 + 2}"
