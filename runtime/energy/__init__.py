"""Energy meters: joules since a meter was opened, where they come from, and None where nobody knows.

One file a vendor. A meter is read off the hot path (`EnergySampler`); what it says is split into idle, radio
and computing (`split_energy`) by whoever reports.
"""

from __future__ import annotations

from isthmus.runtime.energy.meter import EnergyMeter
from isthmus.runtime.energy.opening import METERS, Found, find_sensors, open_meter
from isthmus.runtime.energy.sampler import EnergySampler
from isthmus.runtime.energy.split import EnergySplit, Window, is_modelled, split_energy, windows
from isthmus.runtime.machines import RadioModel

__all__ = [
    "METERS",
    "EnergyMeter",
    "EnergySampler",
    "EnergySplit",
    "Found",
    "RadioModel",
    "Window",
    "find_sensors",
    "is_modelled",
    "open_meter",
    "split_energy",
    "windows",
]
