"""The device's joules for one frame, from its watts.

A model, never a measurement: watts × seconds, as in Kang et al., "Neurosurgeon" (ASPLOS 2017), with what the
device draws while it waits. Where idle watts are known the whole board is counted from capture to answer,
else only what is above idle. Of a radio that is known by its joules per byte, these count, and what it draws
awake until the answer is there; its tail after that belongs to no single frame. What is unknown stays so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.partitioner.plan import StageTimes
from isthmus.partitioner.search import DevicePower
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import Power, RadioModel


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModel:
    """What a device draws; None where unknown.

    Attributes:
        compute_w: Watts while it computes.
        transmit_w: Watts while bytes cross.
        wait_w: Watts while it waits for the round trip and the server.
        basis: What these count.
        joules_per_byte: Joules of a byte sent beyond these.
    """

    compute_w: float | None
    transmit_w: float | None
    wait_w: float
    basis: Literal["board", "above idle"] | None
    joules_per_byte: float = 0.0

    @classmethod
    def of(cls, power: Power | None, radio: RadioModel | None = None) -> EnergyModel:
        """Return the model of a device that draws `power`; `radio` stands in for watts of sending."""
        if power is None or power.compute_w is None:
            return cls(compute_w=None, transmit_w=None, wait_w=0.0, basis=None)
        idle_w = power.idle_w or 0.0
        basis: Literal["board", "above idle"] = "above idle" if power.idle_w is None else "board"
        if power.transmit_w is None and radio is not None:
            awake_w = idle_w + radio.tail_w
            return cls(
                compute_w=power.compute_w + idle_w,
                transmit_w=awake_w,
                wait_w=awake_w,
                joules_per_byte=radio.transmit_j_per_byte,
                basis=basis,
            )
        return cls(
            compute_w=power.compute_w + idle_w,
            transmit_w=None if power.transmit_w is None else power.transmit_w + idle_w,
            wait_w=idle_w,
            basis=basis,
        )

    @property
    def known(self) -> bool:
        """Whether every candidate's energy can be told."""
        return self.compute_w is not None and self.transmit_w is not None

    def require(self, device: str) -> None:
        """Check that every candidate's energy can be told, for an objective that needs it.

        Raises:
            InputError: If not; says what of `device` is missing.
        """
        if not self.known:
            missing = "computing" if self.compute_w is None else "transmitting"
            raise InputError(
                f"{device}: its watts of {missing} are unknown, so energy is no objective; "
                "give --power IDLE,COMPUTE,TRANSMIT or add them to its profile"
            )

    def frame_j(self, times: StageTimes, *, rtt_s: float, nbytes: int) -> float | None:
        """Return the joules of a frame that sends `nbytes`; None where unknown, or where it never ends."""
        if self.compute_w is None or times.link_s is None:
            return None
        if times.link_s == 0 and times.server_s == 0:
            return self.compute_w * times.device_s
        if self.transmit_w is None:
            return None
        transfer_s = max(0.0, times.link_s - rtt_s)
        waiting_s = times.link_s - transfer_s + times.server_s
        crossing_j = self.transmit_w * transfer_s + self.wait_w * waiting_s + self.joules_per_byte * nbytes
        return self.compute_w * times.device_s + crossing_j

    def compute_j(self, device_s: float) -> float:
        """Return the joules of computing for `device_s`; 0 where unknown, which only a search may take."""
        return (self.compute_w or 0.0) * device_s

    def for_search(self) -> DevicePower:
        """Return what the device draws beside computing, as the search takes it."""
        if not self.known:
            return DevicePower()
        return DevicePower(
            idle_w=self.wait_w,
            transmit_w=(self.transmit_w or 0.0) - self.wait_w,
            joules_per_byte=self.joules_per_byte,
        )
