"""Who captures when, for a slice of time and a whole fleet at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.simulation.fleet.world import FleetWorld

Floats = NDArray[np.float64]
Devices = NDArray[np.int32]


class Captures:
    """Draws the captures of a fleet, slice after slice.

    Devices are numbered by their phase, so that those which fall due within a slice are neighbours: no sort,
    no search per device.
    """

    def __init__(self, world: FleetWorld, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng
        known = np.array(world.arrivals.phases)
        self._phases = np.sort(known if len(known) else rng.random(world.devices))
        # Which devices are active, at any share: those whose draw lies below it.
        self._eagerness = rng.random(world.devices, dtype=np.float32)

    def between(self, from_s: float, until_s: float) -> tuple[Devices, Floats]:
        """Return the devices that capture in [`from_s`, `until_s`) and when, in order of time."""
        if self._world.arrivals.pattern == "poisson":
            return self._at_random(from_s, until_s)
        fps = self._world.fps
        begin, end = from_s * fps, until_s * fps
        devices, instants_s = [], []
        for period in range(math.floor(begin), math.ceil(end)):
            low, high = np.searchsorted(self._phases, (begin - period, end - period))
            if high > low:
                devices.append(np.arange(low, high, dtype=np.int32))
                instants_s.append((self._phases[low:high] + period) / fps)
        if not devices:
            return np.empty(0, np.int32), np.empty(0)
        device, instant_s = np.concatenate(devices), np.concatenate(instants_s)
        share = self._world.arrivals.active((from_s + until_s) / 2)
        if share >= 1.0:
            return device, instant_s
        active = self._eagerness[device] < share
        return device[active], instant_s[active]

    def _at_random(self, from_s: float, until_s: float) -> tuple[Devices, Floats]:
        world, rng = self._world, self._rng
        count = rng.poisson(world.devices * world.fps * (until_s - from_s))
        device = rng.integers(0, world.devices, count, dtype=np.int32)
        instant_s = np.sort(rng.random(count)) * (until_s - from_s) + from_s
        return device, instant_s
