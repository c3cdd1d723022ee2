"""The agent on a virtual clock: one device over a link, or a fleet of them."""

from isthmus.runtime.simulation.account import DeviceRun, EventSink
from isthmus.runtime.simulation.device import run_device
from isthmus.runtime.simulation.distribution import Constant, Distribution, Empirical, Lognormal
from isthmus.runtime.simulation.energy import DeviceEnergy
from isthmus.runtime.simulation.foresight import foresee
from isthmus.runtime.simulation.log import run_logged
from isthmus.runtime.simulation.measured import MeasuredTimes, measured_times
from isthmus.runtime.simulation.sweep import (
    Interval95,
    Outcome,
    Row,
    interval95,
    rows,
    seeded,
    sweep,
    sweep_policy,
)
from isthmus.runtime.simulation.world import DeviceWorld, FrameLuck, payload_bytes

__all__ = [
    "Constant",
    "DeviceEnergy",
    "DeviceRun",
    "DeviceWorld",
    "Distribution",
    "Empirical",
    "EventSink",
    "FrameLuck",
    "Interval95",
    "Lognormal",
    "MeasuredTimes",
    "Outcome",
    "Row",
    "foresee",
    "interval95",
    "measured_times",
    "payload_bytes",
    "rows",
    "run_device",
    "run_logged",
    "seeded",
    "sweep",
    "sweep_policy",
]
