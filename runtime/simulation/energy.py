"""What a simulated device draws: at rest, computing, and by its radio. Modelled, from a machine's profile."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.runtime.machines import MachineProfile, RadioModel


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """The watts of a device.

    Attributes:
        source: What joules made of them are marked with: `model:` and the profile's name.
        idle_w: At rest, always.
        compute_w: Beyond that, while it computes.
        radio: What its radio costs; None: nothing is counted for it.
    """

    source: str
    idle_w: float
    compute_w: float
    radio: RadioModel | None = None

    @classmethod
    def of(cls, profile: MachineProfile) -> DeviceEnergy | None:
        """Return what `profile` says; None where it does not know the watts at rest or of computing."""
        power = profile.power
        if power is None or power.idle_w is None:
            return None
        compute_w = power.computing_w(profile.threads)
        if compute_w is None:
            return None
        return cls(
            source=f"model:{profile.name}", idle_w=power.idle_w, compute_w=compute_w, radio=profile.radio
        )


class RadioAwake:
    """For how long a radio has been awake: while bytes cross, and for its tail after them.

    Args:
        tail_s: Seconds of the tail.
    """

    def __init__(self, tail_s: float) -> None:
        self._tail_s = tail_s
        self._closed_s = 0.0
        self._begin_s = self._until_s = float("-inf")

    def crossed(self, begin_s: float, end_s: float) -> None:
        """Note that bytes cross from `begin_s` until `end_s`; beginnings come in rising order."""
        if begin_s > self._until_s:
            if self._begin_s > float("-inf"):
                self._closed_s += self._until_s - self._begin_s
            self._begin_s, self._until_s = begin_s, end_s + self._tail_s
        else:
            self._until_s = max(self._until_s, end_s + self._tail_s)

    def seconds(self, now_s: float) -> float:
        """Return the seconds awake until `now_s`."""
        if self._begin_s == float("-inf"):
            return 0.0
        return self._closed_s + max(0.0, min(now_s, self._until_s) - self._begin_s)


class EnergyAccount:
    """The joules of one simulated device from `start_s` on."""

    def __init__(self, energy: DeviceEnergy, start_s: float) -> None:
        self._energy = energy
        self._start_s = start_s
        self._bytes_j = 0.0
        self._awake = None if energy.radio is None else RadioAwake(energy.radio.tail_s)

    def crossed(self, begin_s: float, end_s: float, *, sent_bytes: int = 0, received_bytes: int = 0) -> None:
        """Count bytes that cross from `begin_s` until `end_s`."""
        radio = self._energy.radio
        if radio is None or self._awake is None:
            return
        self._bytes_j += radio.transfer_j(sent_bytes, received_bytes, next_s=0.0)
        self._awake.crossed(begin_s, end_s)

    def energy_j(self, now_s: float, *, computed_s: float) -> float:
        """Return the joules until `now_s`, in which the device has computed for `computed_s`."""
        energy = self._energy
        resting_j = energy.idle_w * (now_s - self._start_s)
        awake_j = 0.0
        if energy.radio is not None and self._awake is not None:
            awake_j = energy.radio.tail_w * self._awake.seconds(now_s)
        return resting_j + energy.compute_w * computed_s + self._bytes_j + awake_j
