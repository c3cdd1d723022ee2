"""One direction of an emulated link for whole packets: when does each come out, and which are lost?

Pure: packets and times in, packets due out. First in, first out over the same `SimLink` that the simulator
uses; what does not fit the queue is dropped, as a base station or a modem drops it.
"""

from __future__ import annotations

import math
import random
from collections import deque

from isthmus.runtime.links.sim import SimLink
from isthmus.runtime.links.trace import RateTrace


class PacketLink:
    """Carries packets; the trace begins with the first.

    Args:
        trace: The rate over time, headers of IP and TCP included; None for no limit.
        delay_s: Seconds every packet travels after its transmission.
        loss: Share of packets that are lost on the way, drawn independently.
        queue_bytes: What may wait to be transmitted; a packet that would exceed it is dropped.
        seed: Of the draws of loss.

    Attributes:
        delivered_bytes: What has come out.
        lost: Packets lost on the way.
        dropped: Packets that found the queue full.
    """

    def __init__(
        self,
        trace: RateTrace | None,
        *,
        delay_s: float = 0.0,
        loss: float = 0.0,
        queue_bytes: int = 128_000,
        seed: int = 0,
    ) -> None:
        self._link = None if trace is None else SimLink(trace)
        self._delay_s = delay_s
        self._loss = loss
        self._queue_bytes = queue_bytes
        self._draws = random.Random(seed)
        self._begun_s: float | None = None
        self._waiting: deque[tuple[float, int]] = deque()  # (when its last byte leaves, bytes)
        self._waiting_bytes = 0
        self._travelling: deque[tuple[float, bytes]] = deque()
        self.delivered_bytes = self.lost = self.dropped = 0

    @property
    def begun_s(self) -> float | None:
        """When the first packet came; None before."""
        return self._begun_s

    def push(self, packet: bytes, now_s: float) -> None:
        """Put `packet` on the link at `now_s` (monotonic seconds)."""
        if self._begun_s is None:
            self._begun_s = now_s
        if self._loss and self._draws.random() < self._loss:
            self.lost += 1
            return
        leaves_s = now_s
        if self._link is not None:
            self._forget_left(now_s)
            # An empty queue takes any packet: one larger than the queue would never cross.
            if self._waiting and self._waiting_bytes + len(packet) > self._queue_bytes:
                self.dropped += 1
                return
            leaves_s = self._begun_s + self._link.send(len(packet), now_s - self._begun_s)
            self._waiting.append((leaves_s, len(packet)))
            self._waiting_bytes += len(packet)
        self._travelling.append((leaves_s + self._delay_s, packet))

    def pop(self, now_s: float) -> list[bytes]:
        """Return the packets that have come out by `now_s`, in order."""
        due = []
        while self._travelling and self._travelling[0][0] <= now_s:
            due.append(self._travelling.popleft()[1])
            self.delivered_bytes += len(due[-1])
        return due

    def next_s(self) -> float:
        """Return when the next packet comes out; infinity if none will."""
        return self._travelling[0][0] if self._travelling else math.inf

    def _forget_left(self, now_s: float) -> None:
        while self._waiting and self._waiting[0][0] <= now_s:
            self._waiting_bytes -= self._waiting.popleft()[1]
