"""How many servers take frames, when that follows the load. Pure: time and load are arguments."""

from __future__ import annotations

import math

from isthmus.runtime.simulation.fleet.world import FleetWorld


class Scaler:
    """Adds servers when they compute more of their time than wanted, and removes them after a while.

    Attributes:
        servers: How many take frames now.
    """

    def __init__(self, world: FleetWorld) -> None:
        self._rule = world.autoscale
        self.servers = world.servers
        self._decided_s = 0.0
        self._computed_s = 0.0
        self._starting: list[tuple[float, int]] = []
        self._enough_since_s: float | None = None

    def see(self, now_s: float, computed_s: float) -> None:
        """Decide at `now_s`, when all tails together have computed `computed_s` seconds so far."""
        rule = self._rule
        if rule is None:
            return
        while self._starting and self._starting[0][0] <= now_s:
            self.servers = max(self.servers, self._starting.pop(0)[1])
        if now_s - self._decided_s < rule.every_s:
            return
        busy = (computed_s - self._computed_s) / (now_s - self._decided_s)
        self._decided_s, self._computed_s = now_s, computed_s
        wanted = min(rule.most, max(rule.least, math.ceil(busy / rule.target)))
        coming = self._starting[-1][1] if self._starting else self.servers
        if wanted > coming:
            self._starting.append((now_s + rule.start_s, wanted))
        if wanted >= self.servers:
            self._enough_since_s = None
            return
        self._enough_since_s = now_s if self._enough_since_s is None else self._enough_since_s
        if now_s - self._enough_since_s >= rule.down_after_s:
            self.servers -= 1
