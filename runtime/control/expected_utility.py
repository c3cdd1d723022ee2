"""The expected-utility policy: send what is worth most, counting how likely its answer is to come in time.

Pure: no clock, no socket, no thread. Past errors of the rate estimate give, for each operating point, the
probability p of an answer before the device would have to give its own; sending is worth
p·u + (1 − p)·u_device, less what its backlog costs the next frame: nothing if the link is free again by then,
else a price for the time it is not. Without that price a policy fills the queue up to the deadline and stays
there. When the device's answer is worth more and nothing is in flight, the smallest point is sent all the
same from time to time: a controller that stops sending stops learning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.types import Decision, DeviceState, Fallback, LinkEstimate
from isthmus.runtime.units import format_bytes, format_duration, format_rate

Floats = NDArray[np.float64]

# Before any error was observed: a spread of ±30 % around the estimate.
_PRIOR_RESIDUALS = (-0.35, -0.15, 0.0, 0.15, 0.35)
# Some frames are late whatever was predicted: between equals, one with a fallback is better.
_MOST_CERTAIN = 0.999
# A longer backlog is answered by not sending; how much longer no longer matters.
_MOST_BUDGETS = 2.0


@dataclass(frozen=True, slots=True)
class _Worth:
    """Per operating point: the objective, p, and the fallback that maximises the objective."""

    value: Floats
    in_time: Floats
    utility: Floats
    fallback: list[tuple[Fallback | None, float]]
    chosen: NDArray[np.intp]


class ExpectedUtilityPolicy:
    """Maximises the expected utility of every frame, less the price of the backlog it leaves.

    It remembers one thing: when it was last asked, which tells when the next frame will come.
    """

    name = "expected-utility"

    def __init__(
        self,
        points: PointTable,
        *,
        probe_interval_s: float = 0.2,
        stalled_probe_s: float = 2.0,
        backlog_price: float = 1.0,
    ) -> None:
        """Read the measured table.

        Args:
            points: Utility and bytes of every operating point.
            probe_interval_s: Least time between probes on a link that answers.
            stalled_probe_s: Time after which a frame in flight no longer keeps a probe from being sent; an
                answer may have been lost for good.
            backlog_price: Share of what the link can add to the device's own answer that the next frame
                loses if it finds a backlog that lasts a whole budget.
        """
        self._answers = DeviceAnswers(points)
        self._points = [record.point for record in points.records]
        self._utility = np.array([record.utility for record in points.records])
        # The 95th percentile: a payload larger than predicted is late, a smaller one gains nothing.
        self._bytes = np.array([record.bytes_p95 for record in points.records])
        exits = self._answers.exit_utility
        self._exit_utility = np.array([exits.get(point.width_index, np.nan) for point in self._points])
        self._best_utility = float(self._utility.max())
        self._by_size = np.lexsort((-self._utility, self._bytes))
        self._probe_interval_s = probe_interval_s
        self._stalled_probe_s = stalled_probe_s
        self._backlog_price = backlog_price
        self._asked_s: float | None = None
        self._interval_s: float | None = None

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        if self._asked_s is not None and now_s > self._asked_s:
            self._interval_s = now_s - self._asked_s
        self._asked_s = now_s
        if not link.connected:
            return self._answers.decide(device, budget_s, "not connected")
        head_s = np.array([self._answers.head_s(device, point.width_index) for point in self._points])
        alone = self._answers.best(device, budget_s)
        alone_utility = 0.0 if alone is None else alone.utility
        worth = self._worth(link, device, head_s, budget_s, alone_utility)
        # Ties: fewer bytes, then less compute.
        best = int(np.lexsort((head_s, self._bytes, -worth.value))[0])
        if worth.in_time[best] > 0 and worth.value[best] > alone_utility:
            return self._send(best, worth, link, probe=False)
        fits = head_s + device.encode_s <= budget_s
        if (fits & (self._utility > alone_utility)).any() and self._may_probe(link):
            # The fewest bytes whose own head is done in time: later, the frame would not leave at all.
            smallest = int(self._by_size[fits[self._by_size]][0])
            return self._send(smallest, worth, link, probe=True)
        rate = format_rate(link.rate_bytes_per_s)
        return self._answers.decide(device, budget_s, f"rate {rate}, {link.in_flight} in flight")

    def _worth(
        self, link: LinkEstimate, device: DeviceState, head_s: Floats, budget_s: float, alone: float
    ) -> _Worth:
        ready_s = head_s + device.encode_s
        sent_s = self._sent_s(link, ready_s)
        answered_s = sent_s + ((link.rtt_s or 0.0) + device.server_s)
        price = max(0.0, self._best_utility - alone) * self._price(sent_s - ready_s[:, None], budget_s)
        candidates: list[tuple[Fallback | None, float]] = [(None, 0.0)]
        utilities = [np.zeros_like(self._utility)]
        if device.exit_s is not None:
            candidates.append(("exit", device.exit_s))
            utilities.append(self._exit_utility)
        if device.local_s is not None and self._answers.local_utility is not None:
            candidates.append(("local", device.local_s))
            utilities.append(np.full_like(self._utility, self._answers.local_utility))
        in_time, value, utility = [], [], []
        for (kind, need_s), own in zip(candidates, utilities, strict=True):
            p = np.minimum((answered_s <= budget_s - need_s).mean(axis=1), _MOST_CERTAIN)
            possible = ~np.isnan(own) & ((ready_s + need_s <= budget_s) | (kind is None))
            expected = p * self._utility + (1 - p) * own
            in_time.append(p)
            utility.append(expected)
            value.append(np.where(possible, expected - price, -np.inf))
        chosen = np.argmax(value, axis=0)
        rows = np.arange(len(self._points))
        return _Worth(
            value=np.array(value)[chosen, rows],
            in_time=np.array(in_time)[chosen, rows],
            utility=np.array(utility)[chosen, rows],
            fallback=candidates,
            chosen=chosen,
        )

    def _sent_s(self, link: LinkEstimate, ready_s: Floats) -> Floats:
        """Return [points, residuals] seconds until the link is done: a column per past error."""
        if not link.rate_bytes_per_s:
            return np.full((len(self._points), 1), np.inf)
        rates = link.rate_bytes_per_s * np.exp(np.array(link.residuals or _PRIOR_RESIDUALS))
        free_s = link.backlog_bytes / rates
        start_s = np.maximum(ready_s[:, None], free_s[None, :])
        sent_s: Floats = start_s + (self._bytes[:, None] + link.overhead_bytes) / rates[None, :]
        return sent_s

    def _price(self, busy_s: Floats, budget_s: float) -> Floats:
        """Return the share the next frame loses if each point holds the link for `busy_s`."""
        if self._interval_s is None or budget_s <= 0:
            return np.zeros(len(self._points))
        budgets = np.clip((busy_s - self._interval_s) / budget_s, 0.0, _MOST_BUDGETS).mean(axis=1)
        price: Floats = self._backlog_price * budgets
        return price

    def _may_probe(self, link: LinkEstimate) -> bool:
        if link.idle_s is None:
            return True
        if link.in_flight == 0:
            return link.idle_s >= self._probe_interval_s
        return link.idle_s >= self._stalled_probe_s

    def _send(self, index: int, worth: _Worth, link: LinkEstimate, *, probe: bool) -> Decision:
        fallback, fallback_s = worth.fallback[worth.chosen[index]]
        rate, size = format_rate(link.rate_bytes_per_s), format_bytes(float(self._bytes[index]))
        if probe:
            idle = "never sent" if link.idle_s is None else f"idle {format_duration(link.idle_s)}"
            reason = f"probe with {size}: rate {rate}, {idle}"
        else:
            reason = (
                f"{worth.in_time[index]:.0%} in time with {size} at {rate}, {link.backlog_bytes} B queued"
            )
        return Decision(
            action="send",
            point=self._points[index],
            probe=probe,
            expected_utility=float(worth.utility[index]),
            reason=reason,
            fallback=fallback,
            fallback_s=fallback_s,
        )
