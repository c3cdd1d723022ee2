"""Joules out of what sensors tell: watts are integrated, counters are unwrapped.

Decides what a gap means. Readings that failed for a short while are bridged, because the sensor is asked ten
times a second and the device's draw changes slowly beside a window of many seconds. After a longer gap nobody
knows what was drawn in it, so the joules since the meter was opened stay unknown from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isthmus.runtime.errors import InputError

Clock = Callable[[], float]

# Watts are taken to have changed evenly over so many seconds, no longer.
LONGEST_GAP_S = 10.0
# No counter of one package, memory or GPU grows faster: what does has been set back.
_MOST_W = 1500.0


class PowerMeter:
    """Joules of a sensor that tells watts: one is read at every reading, evenly joined in between.

    Args:
        source: As in `EnergyMeter`.
        read_w: Returns watts now; raises InputError, in one line, where it cannot.
        clock: Monotonic seconds.
        longest_gap_s: Between two readings; beyond it the joules are lost.

    Raises:
        InputError: If the sensor cannot be read.
    """

    measured = True

    def __init__(
        self, source: str, read_w: Callable[[], float], *, clock: Clock, longest_gap_s: float = LONGEST_GAP_S
    ) -> None:
        self.source = source
        self.trouble: str | None = None
        self._read_w = read_w
        self._clock = clock
        self._integral = Integral(longest_gap_s)
        self._integral.add(read_w(), clock())

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        if self._integral.lost:
            return None
        try:
            self._integral.add(self._read_w(), self._clock())
        except InputError as error:
            self.trouble = str(error)
            return None
        self.trouble = f"{self.source}: {self._integral.lost}" if self._integral.lost else None
        return self._integral.energy_j

    def close(self) -> None:
        """See `EnergyMeter`."""


class Integral:
    """Joules under readings of watts, by the trapezoid rule.

    Attributes:
        lost: Why the joules are unknown for good; empty while they are known.
    """

    def __init__(self, longest_gap_s: float = LONGEST_GAP_S) -> None:
        self.lost = ""
        self._longest_gap_s = longest_gap_s
        self._last: tuple[float, float] | None = None
        self._energy_j = 0.0

    @property
    def energy_j(self) -> float | None:
        """Joules from the first reading to the last; None before the first, and once they are lost."""
        return None if self.lost or self._last is None else self._energy_j

    def add(self, power_w: float, at_s: float) -> None:
        """Take the reading `power_w` at `at_s`, in seconds; readings come in rising order."""
        if self._last is not None:
            before_w, before_s = self._last
            gap_s = at_s - before_s
            if gap_s > self._longest_gap_s:
                self.lost = f"no reading for {gap_s:.0f} s; the joules from there on are unknown"
            self._energy_j += 0.5 * (before_w + power_w) * gap_s
        self._last = power_w, at_s


class Counter:
    """One counter of joules that grows, and begins again at 0 after its range.

    Args:
        name: What messages call it.
        read_j: Returns what it shows, in joules; raises InputError where it cannot.
        range_j: Where it begins again; None: it never does.
    """

    def __init__(self, name: str, read_j: Callable[[], float], *, range_j: float | None = None) -> None:
        self.name = name
        self.lost = ""
        self._read_j = read_j
        self._range_j = range_j
        self._last: tuple[float, float] | None = None
        self._grown_j = 0.0

    def advance(self, now_s: float) -> float:
        """Return the joules since the first call.

        Raises:
            InputError: If the counter cannot be read.
        """
        shown_j = self._read_j()
        if self._last is not None:
            before_j, before_s = self._last
            self._grown_j += self._growth_j(before_j, shown_j, now_s - before_s)
        self._last = shown_j, now_s
        return self._grown_j

    def _growth_j(self, before_j: float, shown_j: float, gap_s: float) -> float:
        growth_j = shown_j - before_j
        if self._range_j is None:
            if growth_j < 0:
                self.lost = "the counter was set back; the joules from there on are unknown"
            return growth_j
        if gap_s > self._range_j / _MOST_W:
            self.lost = f"not read for {gap_s:.0f} s, in which it may have wrapped unseen"
        if growth_j < 0:
            growth_j += self._range_j
        # A counter that was set back (a driver loaded anew) looks as if it had wrapped.
        if growth_j > _MOST_W * max(gap_s, 1.0):
            self.lost = "the counter was set back; the joules from there on are unknown"
        return growth_j


class CounterMeter:
    """The sum of counters of joules.

    Args:
        source: As in `EnergyMeter`.
        counters: Of parts that do not overlap.
        clock: Monotonic seconds.

    Raises:
        InputError: If one cannot be read.
    """

    measured = True

    def __init__(self, source: str, counters: Sequence[Counter], *, clock: Clock) -> None:
        self.source = source
        self.trouble: str | None = None
        self._counters = counters
        self._clock = clock
        for counter in counters:
            counter.advance(clock())

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        try:
            total_j = sum(counter.advance(self._clock()) for counter in self._counters)
        except InputError as error:
            self.trouble = str(error)
            return None
        lost = next((counter for counter in self._counters if counter.lost), None)
        self.trouble = f"{self.source}: {lost.name}: {lost.lost}" if lost else None
        return None if lost else total_j

    def close(self) -> None:
        """See `EnergyMeter`."""
