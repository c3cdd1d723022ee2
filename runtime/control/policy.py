"""The policies by name: expected utility, and the two baselines that every comparison needs."""

from __future__ import annotations

import re

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.control.device_answer import DeviceAnswers
from isthmus.runtime.control.expected_utility import ExpectedUtilityPolicy
from isthmus.runtime.control.types import Decision, DeviceState, Fallback, LinkEstimate, Policy
from isthmus.runtime.errors import InputError

# A fixed policy does not adapt, but an outage must not fill the device's memory either.
_MOST_IN_FLIGHT = 64
_NAMES = "expected-utility, fixed:WIDTHINDEX,CHANNELS, local"


class FixedPolicy:
    """Sends every frame at one operating point while there is a connection, whatever the link does."""

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
        if link.in_flight >= _MOST_IN_FLIGHT:
            return self._answers.decide(device, budget_s, f"{link.in_flight} in flight")
        fallback, fallback_s = self._fallback(device)
        return Decision(
            action="send",
            point=self._record.point,
            probe=False,
            expected_utility=self._record.utility,
            reason="fixed",
            fallback=fallback,
            fallback_s=fallback_s,
        )

    def _fallback(self, device: DeviceState) -> tuple[Fallback | None, float]:
        choices: list[tuple[float, Fallback, float]] = []
        exit_utility = self._answers.exit_utility.get(self._record.point.width_index)
        if exit_utility is not None and device.exit_s is not None:
            choices.append((exit_utility, "exit", device.exit_s))
        if self._answers.local_utility is not None and device.local_s is not None:
            choices.append((self._answers.local_utility, "local", device.local_s))
        if not choices:
            return None, 0.0
        _, fallback, seconds = max(choices)
        return fallback, seconds


class LocalPolicy:
    """Answers every frame on the device."""

    name = "local"

    def __init__(self, points: PointTable) -> None:
        """Use the best of the device's own answers.

        Raises:
            InputError: If the bundle carries none.
        """
        if points.local is None and not points.exits:
            raise InputError("policy 'local': the bundle has neither local.onnx nor exit.onnx; export one")
        self._answers = DeviceAnswers(points)

    def decide(self, link: LinkEstimate, device: DeviceState, *, budget_s: float, now_s: float) -> Decision:
        """Return what to do with the frame at hand; see `Policy.decide`."""
        return self._answers.decide(device, budget_s, "policy local")


def make_policy(name: str, points: PointTable) -> Policy:
    """Return the policy `name`: `expected-utility`, `fixed:WIDTHINDEX,CHANNELS` or `local`.

    Raises:
        InputError: If there is no such policy, or the bundle lacks what it needs.
    """
    if name == "expected-utility":
        return ExpectedUtilityPolicy(points)
    if name == "local":
        return LocalPolicy(points)
    match = re.fullmatch(r"fixed:([0-9]{1,5}),([0-9]{1,5})", name)
    if match is None:
        raise InputError(f"policy {name!r} is not known; choose one of {_NAMES}")
    point = OperatingPoint(width_index=int(match[1]), channels=int(match[2]))
    known = [record.point for record in points.records]
    if point not in known:
        listed = ", ".join(f"{p.width_index},{p.channels}" for p in known)
        raise InputError(f"policy {name!r}: the bundle has no such point; it has {listed}")
    return FixedPolicy(points, point)
