"""What a model has done since it was loaded, counted as Triton's clients read it.

Pure: durations are arguments. A *request* may carry several latents; an *execution* is one run of the tail
over the latents of many requests. Durations are summed over requests, but the batches' over executions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


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
        self.ns += max(0, round(seconds * 1e9))


@dataclass(slots=True)
class ModelStatistics:
    """The counters of one model.

    Attributes:
        success: Requests answered with outputs, from arrival to answer.
        fail: Requests refused, failed or expired, from arrival to refusal.
        queue: Of the successful ones: between decoding and the start of their batch.
        decode: Of the successful ones: from arrival until the latents were there.
        compute: Of the successful ones: the run of the tail that they were part of.
        batches: Runs of the tail by their latents.
        latents: Latents computed.
        last_ms: Wall clock of the last success, milliseconds since 1970; 0: there was none.
    """

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    decode: Total = field(default_factory=Total)
    compute: Total = field(default_factory=Total)
    batches: dict[int, Total] = field(default_factory=dict)
    latents: int = 0
    last_ms: int = 0

    @property
    def executions(self) -> int:
        """How many batches were run."""
        return sum(total.count for total in self.batches.values())

    def answered(self, *, total_s: float, decode_s: float, queue_s: float, compute_s: float) -> None:
        """Count a request that got its outputs, `total_s` seconds after its arrival."""
        self.success.add(total_s)
        self.decode.add(decode_s)
        self.queue.add(queue_s)
        self.compute.add(compute_s)
        self.last_ms = time.time_ns() // 1_000_000

    def failed(self, *, total_s: float) -> None:
        """Count a request that got none, `total_s` seconds after its arrival."""
        self.fail.add(total_s)

    def executed(self, *, latents: int, compute_s: float) -> None:
        """Count one run of the tail over `latents` latents."""
        self.batches.setdefault(latents, Total()).add(compute_s)
        self.latents += latents
