"""What a model has done since it was loaded, counted as Triton's clients read it.

Pure: durations are arguments. A *request* may carry several latents; an *execution* is one run of the tail
over the latents of many requests. Durations are summed over requests, but the batches' over executions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Total:
    """How often something took time, and how much together.

    Attributes:
        count: How often.
        ns: Nanoseconds in total.
    """

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one that took `seconds`."""
        self.count += 1
        if seconds > 0.0:
            self.ns += round(seconds * 1e9)


class ModelStatistics:
    """The counters of one model.

    Attributes:
        fail: Requests refused, failed or expired, from arrival to refusal.
        batches: Runs of the tail by their latents.
        latents: Latents computed.
        last_ms: Wall clock of the last success, milliseconds since 1970; 0: there was none.
    """

    __slots__ = (
        "_answered",
        "_compute_s",
        "_decode_s",
        "_queue_s",
        "_total_s",
        "batches",
        "fail",
        "last_ms",
        "latents",
    )

    def __init__(self) -> None:
        """Make counters of a model that has done nothing."""
        self.fail = Total()
        self.batches: dict[int, Total] = {}
        self.latents = 0
        self.last_ms = 0
        # Of the requests that were answered; calls of `Total.add` would take as long as checking a frame.
        self._answered = 0
        self._total_s = self._decode_s = self._queue_s = self._compute_s = 0.0

    @property
    def success(self) -> Total:
        """Requests answered with outputs, from arrival to answer."""
        return self._sum(self._total_s)

    @property
    def decode(self) -> Total:
        """Of the successful ones: from arrival until the latents were there."""
        return self._sum(self._decode_s)

    @property
    def queue(self) -> Total:
        """Of the successful ones: between decoding and the start of their batch."""
        return self._sum(self._queue_s)

    @property
    def compute(self) -> Total:
        """Of the successful ones: the run of the tail that they were part of."""
        return self._sum(self._compute_s)

    @property
    def executions(self) -> int:
        """How many batches were run."""
        return sum(total.count for total in self.batches.values())

    def answered(self, *, total_s: float, decode_s: float, queue_s: float, compute_s: float) -> None:
        """Count a request that got its outputs, `total_s` seconds after its arrival."""
        self._answered += 1
        self._total_s += total_s
        self._decode_s += decode_s
        self._queue_s += queue_s
        self._compute_s += compute_s
        self.last_ms = time.time_ns() // 1_000_000

    def failed(self, *, total_s: float) -> None:
        """Count a request that got none, `total_s` seconds after its arrival."""
        self.fail.add(total_s)

    def executed(self, *, latents: int, compute_s: float) -> None:
        """Count one run of the tail over `latents` latents."""
        total = self.batches.get(latents)
        if total is None:
            total = self.batches[latents] = Total()
        total.add(compute_s)
        self.latents += latents

    def _sum(self, seconds: float) -> Total:
        return Total(self._answered, max(0, round(seconds * 1e9)))
