"""Joules of a device without a sensor, modelled from its profile: never measured, always labelled `model:`.

    watts = idle + compute × the busy share of its processors + what its radio draws

The busy share is the kernel's own (`/proc/stat`); bytes are those that crossed its network interfaces. The
linear form is that of Fan, Weber and Barroso (ISCA 2007); the radio's is `RadioModel`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.sysfs import read_number
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import MachineProfile, RadioModel, load_machine

_REMEDY = "the model reads Linux's own counters"
# Columns of /proc/stat: user nice system idle iowait irq softirq steal; those after them are parts of these.
_IDLE, _IOWAIT, _COLUMNS = 3, 4, 8
_FIRST_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Counts:
    at_s: float
    busy: int
    total: int
    sent_bytes: int
    received_bytes: int


class ModelMeter:
    """Models the joules of the machine it runs on.

    Args:
        name: A machine profile, as `load_machine` takes it.
        root: Where `proc` and `sys` are mounted.
        clock: Monotonic seconds.

    Attributes:
        idle_w: Watts at rest, from the profile.

    Raises:
        ArtifactError: If there is no such profile.
        InputError: If the profile lacks the watts, or the kernel does not tell what runs.
    """

    measured = False

    def __init__(self, name: str, *, root: Path, clock: Clock) -> None:
        profile = load_machine(name)
        self.source = f"model:{profile.name}"
        self.trouble: str | None = None
        self.idle_w, self._compute_w = _watts(profile)
        self._radio = profile.radio
        self._root = root
        self._clock = clock
        self._energy_j = 0.0
        self._crossed_s: float | None = None
        self._last = self._counts()

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        try:
            now = self._counts()
        except InputError as error:
            self.trouble = str(error)
            return None
        before, self._last = self._last, now
        self.trouble = None
        gap_s = now.at_s - before.at_s
        ticks = now.total - before.total
        share = (now.busy - before.busy) / ticks if ticks > 0 else 0.0
        self._energy_j += (self.idle_w + self._compute_w * min(1.0, max(0.0, share))) * gap_s
        if self._radio is not None:
            self._energy_j += self._radio_j(self._radio, before, now)
        return self._energy_j

    def close(self) -> None:
        """See `EnergyMeter`."""

    def _radio_j(self, radio: RadioModel, before: _Counts, now: _Counts) -> float:
        sent = max(0, now.sent_bytes - before.sent_bytes)
        received = max(0, now.received_bytes - before.received_bytes)
        # Bytes may have crossed at any time since the last reading: taken for its end.
        awake_s = 0.0
        if self._crossed_s is not None:
            until_s = min(now.at_s, self._crossed_s + radio.tail_s)
            awake_s = max(0.0, until_s - max(before.at_s, self._crossed_s))
        if sent or received:
            self._crossed_s = now.at_s
        return radio.transfer_j(sent, received, next_s=0.0) + radio.tail_w * awake_s

    def _counts(self) -> _Counts:
        busy, total = self._processor_ticks()
        sent = received = 0
        for card in sorted((self._root / "sys/class/net").glob("*/statistics")):
            if card.parent.name != "lo":
                sent += read_number(card / "tx_bytes", source=self.source, remedy=_REMEDY)
                received += read_number(card / "rx_bytes", source=self.source, remedy=_REMEDY)
        return _Counts(self._clock(), busy, total, sent, received)

    def _processor_ticks(self) -> tuple[int, int]:
        file = self._root / "proc/stat"
        try:
            # The sum of all processors is the first line; the kernel takes its time for the others.
            with file.open("rb", buffering=0) as counters:
                first = counters.read(_FIRST_BYTES).decode("ascii", "replace").split("\n")[0].split()
            ticks = [int(value) for value in first[1 : 1 + _COLUMNS]]
            if first[0] != "cpu" or len(ticks) <= _IOWAIT:
                raise ValueError
        except OSError as error:
            raise InputError(f"{self.source}: {file}: {error.strerror or error}; {_REMEDY}") from None
        except (ValueError, IndexError):
            raise InputError(f"{self.source}: {file} does not tell busy from idle; {_REMEDY}") from None
        return sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT], sum(ticks)


def _watts(profile: MachineProfile) -> tuple[float, float]:
    power = profile.power
    if power is None or power.idle_w is None or power.compute_w is None:
        raise InputError(
            f"energy meter model:{profile.name}: the profile knows no watts at rest and computing; "
            "give one that does, or a meter"
        )
    return power.idle_w, power.compute_w
