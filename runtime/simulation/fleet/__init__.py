"""Fleets: up to a million devices and the servers that answer them."""

from isthmus.runtime.simulation.fleet.counts import FleetRun, Moment
from isthmus.runtime.simulation.fleet.run import run_fleet
from isthmus.runtime.simulation.fleet.sizing import Sizing, Trial, size_fleet
from isthmus.runtime.simulation.fleet.world import (
    Arrivals,
    Autoscale,
    FleetWorld,
    LinkClass,
    Region,
    Service,
)

__all__ = [
    "Arrivals",
    "Autoscale",
    "FleetRun",
    "FleetWorld",
    "LinkClass",
    "Moment",
    "Region",
    "Service",
    "Sizing",
    "Trial",
    "run_fleet",
    "size_fleet",
]
