"""The agent on a virtual clock: one device over a link, or a fleet of them."""

from isthmus.runtime.simulation.account import DeviceRun, EventSink
from isthmus.runtime.simulation.device import run_device
from isthmus.runtime.simulation.distribution import Constant, Distribution, Empirical, Lognormal
from isthmus.runtime.simulation.world import DeviceWorld, FrameLuck, payload_bytes

__all__ = [
    "Constant",
    "DeviceRun",
    "DeviceWorld",
    "Distribution",
    "Empirical",
    "EventSink",
    "FrameLuck",
    "Lognormal",
    "payload_bytes",
    "run_device",
]
