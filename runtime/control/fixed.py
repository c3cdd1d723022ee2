"""One operating point for every frame, whatever the link does: the baseline without any control."""

from __future__ import annotations

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.point_estimate import MOST_IN_FLIGHT
from isthmus.runtime.control.types import Decision, DeviceState, LinkEstimate


class FixedPolicy:
    """Sends every frame at one operating point while there is a connection."""

    def __init__(self, points: PointTable, point: OperatingPoint) -> None:
        """Fix `point`.

        Raises:
            BundleError: If `points` does not list it.
        """
        self.name = f"fixed:{point.width_index},{point.channels}"
        self._answers = DeviceAnswers(points)
        self._record = points.record(point)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        if not link.connected:
            return self._answers.decide(device, budget_s, "not connected")
        if link.in_flight >= MOST_IN_FLIGHT:
            return self._answers.decide(device, budget_s, f"{link.in_flight} in flight")
        fallback, fallback_s, _ = self._answers.fallback(device, self._record.point.width_index)
        return Decision(
            action="send",
            point=self._record.point,
            probe=False,
            expected_utility=self._record.utility,
            reason="fixed",
            fallback=fallback,
            fallback_s=fallback_s,
        )
