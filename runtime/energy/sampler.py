"""A meter read on a thread of its own about ten times a second, so that nobody waits for a sensor."""

from __future__ import annotations

import threading
import time
from collections import deque

from isthmus.runtime.energy.counting import Clock
from isthmus.runtime.energy.meter import EnergyMeter

PERIOD_S = 0.1
# A sensor that takes long is asked less often: reading it is to cost at most this share of the time, unless
# that would leave it unread for longer than this.
_MOST_SHARE, _LONGEST_PAUSE_S = 0.05, 5.0
# A reading that has not come back for so long says nothing of now.
_STALE_S = 15.0
# Watts are a mean over about so long: sensors average over some milliseconds only.
_WINDOW_S = 1.0


class EnergySampler:
    """Reads a meter again and again from `start` to `close`; closes the meter too.

    Args:
        meter: The meter.
        clock: Monotonic seconds.

    Attributes:
        source, measured: The meter's.
    """

    def __init__(self, meter: EnergyMeter, *, clock: Clock = time.monotonic) -> None:
        self.source, self.measured = meter.source, meter.measured
        self._meter = meter
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()
        self._energy_j: float | None = None
        self._trouble: str | None = None
        self._asked_s = clock()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isthmus-energy", daemon=True)

    @property
    def energy_j(self) -> float | None:
        """Joules since the meter was opened, at the last reading; None: unknown now."""
        with self._lock:
            return None if self._stuck_s > _STALE_S else self._energy_j

    @property
    def reading(self) -> tuple[float, float] | None:
        """The last reading: its instant, and the joules since the meter was opened; None: unknown now."""
        with self._lock:
            return None if self._energy_j is None else self._samples[-1]

    @property
    def trouble(self) -> str | None:
        """Why the joules are unknown; None while they are known."""
        with self._lock:
            if self._stuck_s > _STALE_S:
                return f"{self.source}: the sensor no longer answers"
            return self._trouble

    @property
    def power_w(self) -> float | None:
        """Watts, a mean over the last second or so; None before there are two readings of it."""
        with self._lock:
            if self._energy_j is None or len(self._samples) < 2 or self._stuck_s > _STALE_S:
                return None
            (first_s, first_j), (last_s, last_j) = self._samples[0], self._samples[-1]
        return (last_j - first_j) / (last_s - first_s) if last_s > first_s else None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def sample(self) -> None:
        """Read the meter once; what the thread does again and again."""
        energy_j = self._meter.read_j()
        now_s = self._clock()
        with self._lock:
            self._asked_s = now_s
            self._energy_j, self._trouble = energy_j, self._meter.trouble
            if energy_j is None:
                self._samples.clear()
                return
            self._samples.append((now_s, energy_j))
            while len(self._samples) > 2 and self._samples[1][0] <= now_s - _WINDOW_S:
                self._samples.popleft()

    def close(self) -> None:
        """End the thread, which may have to finish a reading, and close the meter."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._meter.close()

    def _run(self) -> None:
        pause_s = 0.0
        while not self._closing.wait(pause_s):
            began_s = self._clock()
            self.sample()
            taken_s = self._clock() - began_s
            pause_s = min(_LONGEST_PAUSE_S, max(PERIOD_S, taken_s / _MOST_SHARE))

    @property
    def _stuck_s(self) -> float:
        return self._clock() - self._asked_s
