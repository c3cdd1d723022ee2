"""The server as one device sees it: a tail that takes its frames one after the other."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from isthmus.runtime.simulation.world import DeviceWorld, inside


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What the server said of a frame, when it had received it, and the seconds it waited and computed."""

    outcome: Literal["ok", "expired", "busy"]
    received_s: float
    queue_s: float
    compute_s: float

    @property
    def ready_s(self) -> float:
        """When the answer leaves the server."""
        return self.received_s + self.queue_s + self.compute_s


class SimServer:
    """Answers frames in the order of their arrival, or refuses them."""

    def __init__(self, world: DeviceWorld, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._free_s = -math.inf

    def answer(self, received_s: float, budget_s: float) -> ServerAnswer:
        """Return the answer to a frame received at `received_s` with `budget_s` seconds left."""
        world, rng = self._world, self._rng
        begun_s = max(self._free_s, received_s + world.server_queue_s.draw(rng))
        if inside(received_s, world.busy):
            return ServerAnswer(outcome="busy", received_s=received_s, queue_s=0.0, compute_s=0.0)
        queue_s = begun_s - received_s
        if queue_s >= budget_s:
            return ServerAnswer(outcome="expired", received_s=received_s, queue_s=queue_s, compute_s=0.0)
        compute_s = world.server.draw(rng)
        self._free_s = begun_s + compute_s
        return ServerAnswer(outcome="ok", received_s=received_s, queue_s=queue_s, compute_s=compute_s)
