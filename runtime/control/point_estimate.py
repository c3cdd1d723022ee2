"""What the policies that believe in one number share: they send the best point that it says is in time.

Pure. They differ in how they guess the rate; everything else here is alike for all, so that a comparison
shows what the guess is worth: the bytes that wait count, and so do the round trip and the server, a link that
answers nothing is probed, and the device answers when nothing fits.
"""

from __future__ import annotations

from collections.abc import Callable

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.frame_worth import Columns
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate
from isthmus.runtime.units import format_bytes, format_rate

# A policy that does not watch its queue must not fill the device's memory in an outage either.
MOST_IN_FLIGHT = 64
# As in the expected-utility policy, so that no policy is better for asking more often.
PROBE_INTERVAL_S = 0.2
STALLED_PROBE_S = 2.0

RateGuess = Callable[[LinkEstimate], float | None]


class Samples:
    """Hands on each delivery's rate once, though every estimate repeats the last ones."""

    def __init__(self) -> None:
        """Start before the first delivery."""
        self._seen = 0

    def new(self, link: LinkEstimate) -> tuple[float, ...]:
        """Return bytes per second of the deliveries since the last call, newest last."""
        if link.delivered < self._seen:  # a new connection counts afresh
            self._seen = 0
        count = min(link.delivered - self._seen, len(link.samples))
        self._seen = link.delivered
        return link.samples[len(link.samples) - count :]


class PointEstimatePolicy:
    """Sends the most useful point that is in time at the guessed rate; of equals the one of fewest bytes."""

    def __init__(self, name: str, points: PointTable, guess: RateGuess) -> None:
        """Choose among `points` by `guess`, which is asked once per frame."""
        self.name = name
        self._guess = guess
        self._answers = DeviceAnswers(points)
        self._columns = Columns(points)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        rate = self._guess(link)
        if not link.connected:
            return self._answers.decide(device, budget_s, "not connected")
        alone = self._answers.best(device, budget_s)
        best = self._best(rate, link, device, budget_s) if rate and link.rate_bytes_per_s else None
        if best is not None and (alone is None or self._columns.utility[best] > alone.utility):
            return self._send(best, link, device, probe=False, rate=rate)
        if may_probe(link):
            return self._send(self._columns.by_size[0], link, device, probe=True, rate=rate)
        return self._answers.decision(alone, budget_s, f"nothing in time at {format_rate(rate)}")

    def _best(self, rate: float, link: LinkEstimate, device: DeviceState, budget_s: float) -> int | None:
        columns = self._columns
        best: int | None = None
        for index in columns.by_size:
            ready_s = self._answers.head_s(device, columns.widths[index]) + device.encode_s
            _, need_s, _ = self._answers.fallback(device, columns.widths[index])
            begin_s = max(ready_s, link.backlog_bytes / rate)
            sent_s = begin_s + (columns.nbytes[index] + link.overhead_bytes) / rate
            in_time = sent_s + (link.rtt_s or 0.0) + device.server_s + need_s <= budget_s
            if in_time and (best is None or columns.utility[index] > columns.utility[best]):
                best = index
        return best

    def _send(
        self, index: int, link: LinkEstimate, device: DeviceState, *, probe: bool, rate: float | None
    ) -> Decision:
        columns = self._columns
        fallback, fallback_s, _ = self._answers.fallback(device, columns.widths[index])
        what, size = "probe with" if probe else "in time with", format_bytes(columns.nbytes[index])
        return Decision(
            action="send",
            point=columns.points[index],
            probe=probe,
            expected_utility=columns.utility[index],
            reason=f"{what} {size} at {format_rate(rate)}, {link.in_flight} in flight",
            fallback=fallback,
            fallback_s=fallback_s,
        )


def may_probe(link: LinkEstimate) -> bool:
    """Return whether the link has been left alone for long enough to be asked again."""
    if link.idle_s is None:
        return True
    return link.idle_s >= (PROBE_INTERVAL_S if link.in_flight == 0 else STALLED_PROBE_S)
