"""What a policy maximises: accuracy in time, correct answers per joule, or accuracy for so many bytes.

Pure. Each objective is a charge in units of accuracy on what an action uses up, so that policies need only
one rule: the expected utility less the charge. The charge follows what was spent so far.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Protocol

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.device_answer import DeviceChoice
from isthmus.runtime.control.types import DeviceState
from isthmus.runtime.errors import InputError

_BYTES_PER = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_BUDGET = re.compile(r"bytes:([0-9]+(?:\.[0-9]+)?)(B|kB|MB|GB)")
# An hour's budget may be spent unevenly over so many seconds.
_SPREAD_S = 300.0
# An empty bucket makes bytes so many times dearer, a full one so many times cheaper.
_STEEPNESS = 8.0
# Frames over which correct answers per joule are averaged.
_ENERGY_FRAMES = 200.0


class Objective(Protocol):
    """A charge on what is used up."""

    @property
    def name(self) -> str:
        """The name as given to `make_objective`."""
        ...

    def send_charges(self, wire_bytes: Sequence[float], device: DeviceState, now_s: float) -> list[float]:
        """Return the charge of sending each operating point now; infinite where it is not allowed."""
        ...

    def device_charge(self, choice: DeviceChoice, device: DeviceState) -> float:
        """Return the charge of the device's own answer `choice`."""
        ...

    def note(self, sent: int | None, choice: DeviceChoice | None, utility: float) -> None:
        """Note what was decided: the index of the point sent, or the device's own answer; its utility."""
        ...


class EnergyPerCorrect:
    """As many correct answers per joule as possible.

    The ratio is maximised by maximising correct − θ·joules, where θ is the ratio that is reached (Dinkelbach
    1967); here θ is the one of the last frames. What the device draws at rest until the next frame is spent
    whatever is decided: it is part of θ, and makes accuracy worth more joules, but of no charge.
    """

    name = "energy"

    def __init__(self, points: PointTable) -> None:
        """Read the joules of the points.

        Raises:
            InputError: If the table has none.
        """
        joules = [record.energy_j for record in points.records]
        known = [energy_j for energy_j in joules if energy_j is not None]
        if len(known) < len(joules) or not known or min(known) <= 0:
            raise InputError(
                "objective 'energy': the joules of some points are unknown; name this device's profile "
                "(--device), as 'isthmus profile' measures it"
            )
        self._point_j = known
        self._head_j = {
            record.point.width_index: min(
                energy_j
                for energy_j, other in zip(known, points.records, strict=True)
                if other.point.width_index == record.point.width_index
            )
            for record in points.records
        }
        # Of the whole network on the device only the time is known: at the power that the heads draw.
        watts = [j / r.head_s for j, r in zip(known, points.records, strict=True) if r.head_s > 0]
        self._watts = median(watts) if watts else 0.0
        self._correct = max(record.utility for record in points.records)
        self._joules = max(known)
        self._spent: tuple[list[float], float] = (known, 0.0)

    def send_charges(self, wire_bytes: Sequence[float], device: DeviceState, now_s: float) -> list[float]:
        """See `Objective`."""
        theta = self._theta(device)
        per_byte_j = device.transmit_j_per_byte
        spent = [j + nbytes * per_byte_j for j, nbytes in zip(self._point_j, wire_bytes, strict=True)]
        self._spent = (spent, theta)
        return [theta * energy_j for energy_j in spent]

    def device_charge(self, choice: DeviceChoice, device: DeviceState) -> float:
        """See `Objective`."""
        return self._theta(device) * self._device_j(choice)

    def note(self, sent: int | None, choice: DeviceChoice | None, utility: float) -> None:
        """See `Objective`."""
        joules = self._spent[0][sent] if sent is not None else self._device_j(choice) if choice else 0.0
        self._correct += (utility - self._correct) / _ENERGY_FRAMES
        self._joules += (joules - self._joules) / _ENERGY_FRAMES

    def _theta(self, device: DeviceState) -> float:
        rest_j = device.idle_w * (device.interval_s or 0.0)
        return self._correct / (self._joules + rest_j)

    def _device_j(self, choice: DeviceChoice) -> float:
        if choice.kind == "exit" and choice.point is not None:
            return self._head_j[choice.point.width_index]
        return self._watts * choice.seconds


class BytesPerHour:
    """The best accuracy for at most so many bytes an hour, for links that are paid by volume.

    A bucket fills at the allowed rate and holds what five minutes may use; what it does not hold cannot be
    sent, so that no hour exceeds its budget by more than the bucket. A byte's charge is what it would buy
    elsewhere: the slope of the points' utility over their bytes at the bytes that are allowed per frame, more
    of it the emptier the bucket is. So the charge settles where spending equals the allowance.
    """

    def __init__(self, points: PointTable, per_hour: float, name: str) -> None:
        """Allow `per_hour` bytes an hour, overhead included."""
        self.name = name
        self._per_s = per_hour / 3600.0
        self._size = self._per_s * _SPREAD_S
        self._held = self._size / 2
        self._at_s: float | None = None
        self._interval_s = 0.1
        self._utility = [record.utility for record in points.records]
        own = [answer.utility for answer in points.exits]
        own += [] if points.local is None else [points.local.utility]
        self._own_utility = max(own, default=0.0)
        self._wire_bytes: Sequence[float] = ()

    def send_charges(self, wire_bytes: Sequence[float], device: DeviceState, now_s: float) -> list[float]:
        """See `Objective`."""
        if self._at_s is not None and now_s > self._at_s:
            elapsed_s = now_s - self._at_s
            self._interval_s = elapsed_s
            self._held = min(self._size, self._held + elapsed_s * self._per_s)
        self._at_s = now_s
        self._wire_bytes = wire_bytes
        slope = self._slope_at(self._per_s * self._interval_s, wire_bytes)
        slope *= _STEEPNESS ** (1.0 - 2.0 * self._held / self._size)
        return [slope * n if n <= self._held else float("inf") for n in wire_bytes]

    def device_charge(self, choice: DeviceChoice, device: DeviceState) -> float:
        """See `Objective`."""
        return 0.0

    def note(self, sent: int | None, choice: DeviceChoice | None, utility: float) -> None:
        """See `Objective`."""
        if sent is not None:
            self._held -= self._wire_bytes[sent]

    def _slope_at(self, per_frame: float, wire_bytes: Sequence[float]) -> float:
        at, utility = 0.0, self._own_utility
        ladder = list(zip(wire_bytes, self._utility, strict=True))
        while True:
            steeper = [((u - utility) / (n - at), n, u) for n, u in ladder if n > at and u > utility]
            if not steeper:
                return 0.0
            slope, at, utility = max(steeper)
            if at > per_frame:
                return slope


def make_objective(name: str, points: PointTable) -> Objective | None:
    """Return the objective `name`: `accuracy` (None: nothing is charged), `energy` or `bytes:50MB` an hour.

    Raises:
        InputError: If there is no such objective, or the bundle lacks what it needs.
    """
    if name == "accuracy":
        return None
    if name == "energy":
        return EnergyPerCorrect(points)
    match = _BUDGET.fullmatch(name)
    if match is None or float(match[1]) <= 0:
        raise InputError(
            f"objective {name!r} is not known; choose one of accuracy, energy, bytes:PER_HOUR (as bytes:50MB)"
        )
    return BytesPerHour(points, float(match[1]) * _BYTES_PER[match[2]], name)
