"""What the device can answer by itself, and how long that takes: the alternative to every send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.control.types import Decision, DeviceState, Fallback
from isthmus.runtime.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """One way for the device to answer a frame from scratch.

    Attributes:
        kind: Early exit or the whole network.
        point: The point whose head feeds the exit; None for `local`.
        utility: Accuracy of this answer.
        seconds: Time it takes, head included.
    """

    kind: Fallback
    point: OperatingPoint | None
    utility: float
    seconds: float


class DeviceAnswers:
    """The device's own answers that a bundle carries."""

    def __init__(self, points: PointTable) -> None:
        """Read them from the measured table `points`."""
        self._points = points
        self.exit_utility = {e.width_index: e.utility for e in points.exits if e.width_index is not None}
        self.local_utility = None if points.local is None else points.local.utility
        self.table_head_s = {record.point.width_index: record.head_s for record in points.records}
        self._widest = {width_index: self._widest_point(width_index) for width_index in self.exit_utility}

    def head_s(self, device: DeviceState, width_index: int) -> float:
        """Return the seconds of the head of `width_index`, as measured now or else as the table says."""
        measured = device.head_s.get(width_index)
        return self.table_head_s.get(width_index, 0.0) if measured is None else measured

    def best(
        self, device: DeviceState, budget_s: float, worth: Callable[[DeviceChoice], float] | None = None
    ) -> DeviceChoice | None:
        """Return the answer within `budget_s` that is worth most, the quicker of equals; None without any.

        Args:
            device: Compute times as measured.
            budget_s: Seconds.
            worth: What an answer is worth; None: its utility.
        """
        choices = []
        if self.local_utility is not None and device.local_s is not None and device.local_s <= budget_s:
            utility, seconds = self.local_utility, device.local_s
            choices.append(DeviceChoice(kind="local", point=None, utility=utility, seconds=seconds))
        if device.exit_s is not None:
            for width_index, utility in self.exit_utility.items():
                seconds = self.head_s(device, width_index) + device.exit_s
                if seconds <= budget_s:
                    point = self._widest[width_index]
                    choices.append(DeviceChoice(kind="exit", point=point, utility=utility, seconds=seconds))
        if worth is None:
            return max(choices, key=lambda choice: (choice.utility, -choice.seconds), default=None)
        return max(choices, key=lambda choice: (worth(choice), -choice.seconds), default=None)

    def decide(self, device: DeviceState, budget_s: float, why: str) -> Decision:
        """Return the decision to give the most useful answer of the device, or to drop the frame."""
        return self.decision(self.best(device, budget_s), budget_s, why)

    def decision(self, choice: DeviceChoice | None, budget_s: float, why: str) -> Decision:
        """Return the decision to answer on the device by `choice`, or to drop the frame without one."""
        if choice is None:
            reason = f"{why}; the device has no answer within {format_duration(budget_s)}"
            return Decision(action="drop", point=None, probe=False, expected_utility=0.0, reason=reason)
        return Decision(
            action=choice.kind,
            point=choice.point,
            probe=False,
            expected_utility=choice.utility,
            reason=f"{why}: {choice.kind} answer on the device",
        )

    def fallback(self, device: DeviceState, width_index: int) -> tuple[Fallback | None, float, float]:
        """Return the most useful way to answer a frame whose head of `width_index` has run.

        Returns:
            Kind, seconds and utility; (None, 0, 0) if the device cannot.
        """
        best: tuple[Fallback | None, float, float] = (None, 0.0, 0.0)
        exit_utility = self.exit_utility.get(width_index)
        if exit_utility is not None and device.exit_s is not None:
            best = ("exit", device.exit_s, exit_utility)
        if self.local_utility is not None and device.local_s is not None and self.local_utility > best[2]:
            best = ("local", device.local_s, self.local_utility)
        return best

    def _widest_point(self, width_index: int) -> OperatingPoint:
        channels = [r.point.channels for r in self._points.records if r.point.width_index == width_index]
        fallback = max((record.point.channels for record in self._points.records), default=1)
        return OperatingPoint(width_index=width_index, channels=max(channels, default=fallback))
