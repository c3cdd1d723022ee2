"""The device's joules for one frame, from its watts.

A model, never a measurement: watts × seconds, as in Kang et al., "Neurosurgeon" (ASPLOS 2017), with what the
device draws while it waits. Where idle watts are known the whole board is counted from capture to answer,
else only what is above idle. What is unknown stays unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isthmus.partitioner.plan import StageTimes
from isthmus.partitioner.search import DevicePower
from isthmus.runtime.errors import InputError
from isthmus.runtime.machines import Power


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModel:
    """What a device draws; None where unknown.

    Attributes:
        compute_w: Watts while it computes.
        transmit_w: Watts while bytes cross.
        wait_w: Watts while it waits for the round trip and the server.
        basis: What these count.
    """

    compute_w: float | None
    transmit_w: float | None
    wait_w: float
    basis: Literal["board", "above idle"] | None

    @classmethod
    def of(cls, power: Power | None) -> EnergyModel:
        """Return the model of a device that draws `power`."""
        if power is None or power.compute_w is None:
            return cls(compute_w=None, transmit_w=None, wait_w=0.0, basis=None)
        idle_w = power.idle_w or 0.0
        return cls(
            compute_w=power.compute_w + idle_w,
            transmit_w=None if power.transmit_w is None else power.transmit_w + idle_w,
            wait_w=idle_w,
            basis="above idle" if power.idle_w is None else "board",
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

    def frame_j(self, times: StageTimes, *, rtt_s: float) -> float | None:
        """Return the joules of a frame that takes `times`; None where unknown, or where it never ends."""
        if self.compute_w is None or times.link_s is None:
            return None
        if times.link_s == 0 and times.server_s == 0:
            return self.compute_w * times.device_s
        if self.transmit_w is None:
            return None
        transfer_s = max(0.0, times.link_s - rtt_s)
        waiting_s = times.link_s - transfer_s + times.server_s
        return self.compute_w * times.device_s + self.transmit_w * transfer_s + self.wait_w * waiting_s

    def compute_j(self, device_s: float) -> float:
        """Return the joules of computing for `device_s`; 0 where unknown, which only a search may take."""
        return (self.compute_w or 0.0) * device_s

    def for_search(self) -> DevicePower:
        """Return what the device draws beside computing, as the search takes it."""
        if not self.known:
            return DevicePower()
        return DevicePower(idle_w=self.wait_w, transmit_w=(self.transmit_w or 0.0) - self.wait_w)
