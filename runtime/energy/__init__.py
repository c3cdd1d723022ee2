"""Energy meters: joules since a meter was opened, where they come from, and None where nobody knows."""

from __future__ import annotations

from isthmus.runtime.energy.meter import EnergyMeter
from isthmus.runtime.energy.opening import open_meter
from isthmus.runtime.energy.replay import ReplayMeter
from isthmus.runtime.machines import RadioModel

__all__ = ["EnergyMeter", "RadioModel", "ReplayMeter", "open_meter"]
