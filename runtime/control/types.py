"""The facts that a policy reads and the decision it returns.

Knows no clock, socket or model: simulator and live agent fill in the same facts and obey the same decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from isthmus.runtime.bundle import OperatingPoint

Action = Literal["send", "exit", "local", "drop"]
Fallback = Literal["exit", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """What is believed of the uplink at one instant.

    Attributes:
        connected: A stream to the server is open.
        rate_bytes_per_s: Payload and overhead bytes per second; 0 on a dead link, None before any evidence.
        rtt_s: Round trip of an empty message, without queues and the server's time; None before any answer.
        backlog_bytes: Bytes that still wait in front of the next frame.
        in_flight: Frames sent and not yet answered.
        oldest_age_s: Seconds since the oldest of them was sent; None if there is none.
        residuals: ln(observed / believed rate) of past deliveries, in rising order: how wrong the belief has
            been.
        idle_s: Seconds since the last send; None before the first.
        overhead_bytes: What the wire adds to every payload.
        steady_rate_bytes_per_s: The rate by deliveries alone, before `rate_bytes_per_s` was lowered because
            the oldest frame is overdue; the residuals refer to it. None: the same.
        ceiling_bytes_per_s: What the silence since then proves: the link has been no faster than this.
        unanswered_bytes: Bytes sent and not known to have left the link; None: `backlog_bytes`, as of now.
        serving_s: Seconds the link has been at them.
        delivered: How many deliveries were measured since the connection was made.
        samples: Bytes per second of the last of them, newest last.
    """

    connected: bool
    rate_bytes_per_s: float | None
    rtt_s: float | None
    backlog_bytes: int
    in_flight: int
    oldest_age_s: float | None
    residuals: tuple[float, ...]
    idle_s: float | None
    overhead_bytes: int = 0
    steady_rate_bytes_per_s: float | None = None
    ceiling_bytes_per_s: float = math.inf
    unanswered_bytes: int | None = None
    serving_s: float = 0.0
    delivered: int = 0
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What computing costs right now, in seconds, as measured while running.

    Attributes:
        head_s: Per width index, one image through that head.
        exit_s: A latent through the early exit, beyond the head; None if the bundle has none.
        local_s: An image through the whole network on the device; None if the bundle carries none.
        encode_s: Encoding a latent into a payload.
        server_s: Queueing, decoding and the tail on the server.
        server_load: Share of its time in which the server's tail computes, in [0, 1]; None: unknown.
        interval_s: Seconds from capture to capture; None: as often as the policy is asked.
        transmit_j_per_byte: Joules that the device's radio takes for a byte on the wire, where they are
            known.
        idle_w: Watts that the device draws whatever is decided, where they are known.
    """

    head_s: Mapping[int, float]
    exit_s: float | None
    local_s: float | None
    encode_s: float
    server_s: float
    server_load: float | None = None
    interval_s: float | None = None
    transmit_j_per_byte: float = 0.0
    idle_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one frame, and why.

    Attributes:
        action: `send` the point's payload; answer by `exit` or `local` on the device; `drop` when neither the
            link nor the device can answer in time.
        point: The point to send; for `exit`, the one whose head feeds the exit; None for `local` and `drop`.
        probe: The frame is sent mainly to learn the rate; an answer in time counts all the same.
        expected_utility: Expected accuracy of the frame's answer, in [0, 1].
        reason: One line for logs and people.
        fallback: How the device answers if the server's answer does not come in time; None if it cannot.
        fallback_s: Seconds the fallback needs: start it at deadline − `fallback_s`.
    """

    action: Action
    point: OperatingPoint | None
    probe: bool
    expected_utility: float
    reason: str
    fallback: Fallback | None = None
    fallback_s: float = 0.0


class Policy(Protocol):
    """Chooses what to do with each frame."""

    @property
    def name(self) -> str:
        """The name as given to `make_policy`."""
        ...

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand.

        Args:
            link: The uplink as believed at `now_s`.
            device: Compute times as measured.
            budget_s: Seconds until the frame's deadline.
            now_s: Monotonic seconds.
        """
        ...
