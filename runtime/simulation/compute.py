"""What computing costs on a simulated device, and what it believes that it costs."""

from __future__ import annotations

import math
import random

from isthmus.runtime.control import DeviceState, Fallback
from isthmus.runtime.session.timing import RecentMedian
from isthmus.runtime.simulation.distribution import Distribution
from isthmus.runtime.simulation.world import DeviceWorld

_WARM_RUNS = 4


class TimedStep:
    """A step that takes random time, and the median of its last nine runs, as the live agent keeps it.

    Attributes:
        total_s: Seconds of all its runs, those that warmed it up apart.
    """

    def __init__(self, times: Distribution, rng: random.Random, *, warm: bool) -> None:
        self._times = times
        self._rng = rng
        self._recent = RecentMedian()
        self.total_s = 0.0
        for _ in range(_WARM_RUNS if warm else 0):
            self.run()
        self.total_s = 0.0  # warming up happens before the run

    @property
    def seconds(self) -> float:
        """The median, in seconds."""
        return self._recent.seconds

    def run(self) -> float:
        """Return the seconds that one more run takes."""
        taken_s = self._times.draw(self._rng)
        self._recent.add(taken_s)
        self.total_s += taken_s
        return taken_s


class SimDevice:
    """The heads, the encoder and the device's own answers, warmed up as the live ones are."""

    def __init__(self, world: DeviceWorld, rng: random.Random) -> None:
        widths = sorted({record.point.width_index for record in world.points.records})
        self._interval_s = 1.0 / world.fps
        self._server_load = world.server_load
        self._energy = world.energy
        self.heads = {width: TimedStep(world.head(width), rng, warm=True) for width in widths}
        self.encode = TimedStep(world.encode_s, rng, warm=False)
        self.exit = None if world.exit is None else TimedStep(world.exit, rng, warm=True)
        self.local = None if world.local is None else TimedStep(world.local, rng, warm=True)

    def state(self, *, server_s: float) -> DeviceState:
        """Return what computing has cost lately; `server_s` is the server's part."""
        radio = None if self._energy is None else self._energy.radio
        return DeviceState(
            head_s={width: head.seconds for width, head in self.heads.items()},
            exit_s=None if self.exit is None else self.exit.seconds,
            local_s=None if self.local is None else self.local.seconds,
            encode_s=self.encode.seconds,
            server_s=server_s,
            server_load=self._server_load,
            interval_s=self._interval_s,
            transmit_j_per_byte=0.0 if radio is None else radio.transmit_j_per_byte,
            idle_w=0.0 if self._energy is None else self._energy.idle_w,
        )

    @property
    def computed_s(self) -> float:
        """Seconds of everything that was computed."""
        steps = [*self.heads.values(), self.encode, self.exit, self.local]
        return math.fsum(step.total_s for step in steps if step is not None)

    def quickest(self) -> tuple[Fallback | None, float]:
        """Return the soonest way to answer a frame whose latent is there, and its seconds."""
        if self.exit is not None:
            return "exit", self.exit.seconds
        if self.local is not None:
            return "local", self.local.seconds
        return None, 0.0

    def answer(self, kind: Fallback) -> float:
        """Return the seconds that an answer of this kind takes, the latent being there."""
        step = self.exit if kind == "exit" else self.local
        assert step is not None
        return step.run()
