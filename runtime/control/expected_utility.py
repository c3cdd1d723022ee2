"""The expected-utility policy: send what is worth most, counting how likely its answer is to come in time.

Pure: no clock, no socket, no thread. The distribution of the rate (`outlook`) gives for each operating point
the probability p of an answer before the device would have to give its own; sending is worth
p·u + (1 − p)·u_device, less what the link's time that it takes is worth to the frames after it (`link_time`),
less the objective's charge. When the device's answer is worth more and nothing is in flight, the smallest
point is sent all the same from time to time: a controller that stops sending stops learning.

Channels thus follow the link, and widths what the heads take now (`head_times`), the deadline and how long a
head keeps the device from the next frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers, DeviceChoice
from isthmus.runtime.control.frame_worth import Columns, FrameWorth
from isthmus.runtime.control.head_times import HeadTimes
from isthmus.runtime.control.link_time import LinkTime
from isthmus.runtime.control.objective import Objective
from isthmus.runtime.control.outlook import Outlook
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate
from isthmus.runtime.units import format_bytes, format_duration, format_rate

# The link's time is priced at so many equally likely rates.
_RATES = 9
# Frames over which the usual utility is averaged.
_USUAL_FRAMES = 50.0
_LEAST_GAIN = 1e-12


class ExpectedUtilityPolicy:
    """Maximises the expected utility of every frame, less what it takes from the next ones.

    It remembers when it was last asked, which tells when the next frame will come, and what it did then.

    The defaults were found on the tuning traces of `isthmus bench adaptation` alone (`--option split=tune`):
    a grid over the backlog's price and length, then the others one by one. There the mean regret is 4.0 %;
    twice the price adds 0.8 points and half of it 2.2, twice the length 0.1 and half of it 1.6, probes change
    nothing.
    """

    name = "expected-utility"

    def __init__(
        self,
        points: PointTable,
        *,
        objective: Objective | None = None,
        probe_interval_s: float = 0.2,
        stalled_probe_s: float = 2.0,
        backlog_price: float = 0.8,
        backlog_deadlines: float = 0.35,
    ) -> None:
        """Read the measured table.

        Args:
            points: Utility and bytes of every operating point.
            objective: What is charged beside; None: nothing.
            probe_interval_s: Least time between probes on a link that answers.
            stalled_probe_s: Time after which a frame in flight no longer keeps a probe from being sent; an
                answer may have been lost for good.
            backlog_price: How much of what a backlog takes from later frames counts; not all, because the
                link may turn out faster, or the next frame be answered on the device anyway.
            backlog_deadlines: How many deadlines a backlog is taken to last.
        """
        self._answers = DeviceAnswers(points)
        self._heads = HeadTimes(self._answers.table_head_s)
        self._objective = objective
        self._columns = Columns(points)
        self._free = [0.0] * len(points.records)
        self._probe_interval_s = probe_interval_s
        self._stalled_probe_s = stalled_probe_s
        self._backlog_price = backlog_price
        self._backlog_deadlines = backlog_deadlines
        self._link_time: tuple[tuple[float, int], LinkTime] | None = None
        self._asked_s: float | None = None
        self._interval_s: float | None = None
        self._width_in_use: int | None = None
        self._usual_utility = 0.0

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        device = self._note_asked(device, now_s)
        objective, charges = self._objective, self._free
        worth: Callable[[DeviceChoice], float] | None = None
        if objective is not None:
            wire_bytes = [nbytes + link.overhead_bytes for nbytes in self._columns.nbytes]
            charges = objective.send_charges(wire_bytes, device, now_s)
            worth = partial(_worth, objective, device)
        alone = self._answers.best(device, budget_s, worth)
        if not link.connected:
            return self._note(self._answers.decision(alone, budget_s, "not connected"), None, alone)
        alone_value = 0.0 if alone is None else worth(alone) if worth else alone.utility
        frame = FrameWorth(self._columns, link, device, budget_s)
        best = None
        if frame.outlook is not None:
            prices = self._prices(
                frame, frame.outlook, link, budget_s, 0.0 if alone is None else alone.utility
            )
            best = self._best(frame, alone_value, [p + c for p, c in zip(prices, charges, strict=True)])
        probe = best is None
        if probe and self._may_probe(link):
            best = self._probe(frame, budget_s, alone_value, charges)
        if best is not None:
            return self._note(self._send(best, frame, link, probe=probe), best, None)
        why = f"rate {format_rate(link.rate_bytes_per_s)}, {link.in_flight} in flight"
        return self._note(self._answers.decision(alone, budget_s, why), None, alone)

    def _best(self, frame: FrameWorth, alone_value: float, prices: list[float]) -> int | None:
        """Return the point worth most, of equals the one of fewer bytes; None if none beats the device."""
        best, best_value = None, alone_value + _LEAST_GAIN
        utility = self._columns.utility
        for index in self._columns.by_size:
            if max(utility[index], frame.own_utility) - prices[index] <= best_value:
                continue
            worth, in_time, _, _ = frame.weigh(index)
            if in_time > 0 and worth - prices[index] > best_value:
                best, best_value = index, worth - prices[index] + _LEAST_GAIN
        return best

    def _prices(
        self, frame: FrameWorth, outlook: Outlook, link: LinkEstimate, budget_s: float, alone_utility: float
    ) -> list[float]:
        """Return what each point takes from later frames: of the link's time, and of the device's."""
        interval_s = self._interval_s
        if interval_s is None or budget_s <= 0:
            return self._free
        key = (alone_utility, link.overhead_bytes)
        if self._link_time is None or self._link_time[0] != key:
            wire_bytes = [nbytes + link.overhead_bytes for nbytes in self._columns.nbytes]
            self._link_time = (key, LinkTime(wire_bytes, self._columns.utility, alone_utility))
        lost = self._link_time[1].price(
            outlook.quantiles(_RATES),
            np.array(frame.ready_s),
            queued_bytes=outlook.queued_bytes,
            serving_s=outlook.serving_s,
            interval_s=interval_s,
            frames=max(1.0, self._backlog_deadlines * budget_s / interval_s),
        )
        prices: list[float] = (self._backlog_price * lost).tolist()
        if max(frame.ready_s) > interval_s:
            # Of the frames captured while a head runs all but the last are superseded.
            for index, ready_s in enumerate(frame.ready_s):
                prices[index] += self._usual_utility * max(0.0, ready_s / interval_s - 1.0)
        return prices

    def _probe(
        self, frame: FrameWorth, budget_s: float, alone_value: float, charges: Sequence[float]
    ) -> int | None:
        """Return the point of fewest bytes whose head is done in time; later, it would not leave at all."""
        fits = [index for index in self._columns.by_size if frame.ready_s[index] <= budget_s]
        useful = any(self._columns.utility[index] - charges[index] > alone_value for index in fits)
        return fits[0] if useful else None

    def _may_probe(self, link: LinkEstimate) -> bool:
        if link.idle_s is None:
            return True
        if link.in_flight == 0:
            return link.idle_s >= self._probe_interval_s
        return link.idle_s >= self._stalled_probe_s

    def _send(self, index: int, frame: FrameWorth, link: LinkEstimate, *, probe: bool) -> Decision:
        worth, in_time, fallback, fallback_s = frame.weigh(index)
        rate, size = format_rate(link.rate_bytes_per_s), format_bytes(self._columns.nbytes[index])
        if probe:
            idle = "never sent" if link.idle_s is None else f"idle {format_duration(link.idle_s)}"
            reason = f"probe with {size}: rate {rate}, {idle}"
        else:
            reason = f"{in_time:.0%} in time with {size} at {rate}, {link.backlog_bytes} B queued"
        return Decision(
            action="send",
            point=self._columns.points[index],
            probe=probe,
            expected_utility=max(0.0, worth),
            reason=reason,
            fallback=fallback,
            fallback_s=fallback_s,
        )

    def _note_asked(self, device: DeviceState, now_s: float) -> DeviceState:
        """Take note of the time, and return `device` with the head times as they must be now."""
        if device.interval_s is not None:
            self._interval_s = device.interval_s
        elif self._asked_s is not None and now_s > self._asked_s:
            self._interval_s = now_s - self._asked_s
        self._asked_s = now_s
        heads = self._heads.now(device.head_s, self._width_in_use)
        return device if heads is device.head_s else replace(device, head_s=heads)

    def _note(self, decision: Decision, sent: int | None, alone: DeviceChoice | None) -> Decision:
        self._width_in_use = None if decision.point is None else decision.point.width_index
        self._usual_utility += (decision.expected_utility - self._usual_utility) / _USUAL_FRAMES
        if self._objective is not None:
            self._objective.note(sent, alone, decision.expected_utility)
        return decision


def _worth(objective: Objective, device: DeviceState, choice: DeviceChoice) -> float:
    return choice.utility - objective.device_charge(choice, device)
