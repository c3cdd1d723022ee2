"""Meters in the supply, whoever reads them: what they say becomes joules.

`command`, `mqtt` and `serial_line` bring the texts; here they are understood and added up. A meter that tells
watts is integrated from one text to the next; one that counts joules is subtracted from itself.
"""

from __future__ import annotations

import threading
from urllib.parse import parse_qs

from isthmus.runtime.energy.counting import Clock, Integral
from isthmus.runtime.energy.reading import UNITS, Reading, parse_reading
from isthmus.runtime.errors import InputError

# Smart plugs speak every few seconds to once a minute; what is silent for longer is gone.
SILENT_S = 75.0


class ReadingSum:
    """Joules out of the texts of one external meter; any thread may bring them.

    Args:
        source: As in `EnergyMeter`.
        query: `key=…&unit=…` as in an address; empty: neither.
        clock: Monotonic seconds.

    Raises:
        InputError: If the query has something else in it.
    """

    def __init__(self, source: str, query: str, *, clock: Clock) -> None:
        self.source = source
        self.trouble: str | None = f"{source}: has said nothing yet"
        self._options = _options(source, query)
        self._clock = clock
        self._lock = threading.Lock()
        self._integral = Integral(SILENT_S)
        self._first: Reading | None = None
        self._counted_j = 0.0
        self._lost = ""
        self._heard_s = clock()

    def take(self, text: str) -> None:
        """Take one text; what is no reading becomes `trouble`."""
        try:
            reading = parse_reading(text, **self._options)
        except InputError as error:
            self.fail(f"{self.source}: {error}")
            return
        with self._lock:
            self._heard_s = self._clock()
            if self._first is None:
                self._first = reading
            self._add(reading)
            self.trouble = f"{self.source}: {self._lost}" if self._lost else None

    def fail(self, trouble: str) -> None:
        """Say why there is no reading."""
        with self._lock:
            self.trouble = trouble

    def energy_j(self) -> float | None:
        """Return the joules from the first reading to the last; None where they are unknown."""
        with self._lock:
            silent_s = self._clock() - self._heard_s
            if silent_s > SILENT_S and self.trouble is None:
                self.trouble = f"{self.source}: has said nothing for {silent_s:.0f} s"
            if self.trouble is not None or self._first is None:
                return None
            return self._counted_j if self._first.counts else self._integral.energy_j

    def _add(self, reading: Reading) -> None:
        assert self._first is not None
        if reading.counts != self._first.counts:
            self._lost = "it told watts and joules by turns; choose one by its key"
        elif reading.counts:
            growth_j = reading.value - self._first.value
            if growth_j < self._counted_j:
                self._lost = "its counter was set back; the joules from there on are unknown"
            self._counted_j = growth_j
        else:
            self._integral.add(reading.value, self._heard_s)
            self._lost = self._lost or self._integral.lost


class ExternalMeter:
    """What the meters in the supply have in common: joules and trouble are those of the sum they fill."""

    measured = True
    _sum: ReadingSum

    @property
    def trouble(self) -> str | None:
        """See `EnergyMeter`."""
        return self._sum.trouble

    def read_j(self) -> float | None:
        """See `EnergyMeter`."""
        return self._sum.energy_j()


def _options(source: str, query: str) -> dict[str, str]:
    try:
        given = parse_qs(query, keep_blank_values=True, strict_parsing=True) if query else {}
    except ValueError:
        raise InputError(f"{source}: {query!r} is not of the form key=NAME&unit=W") from None
    options = {name: values[-1] for name, values in given.items()}
    if unknown := set(options) - {"key", "unit"}:
        raise InputError(f"{source}: option {min(unknown)!r} is unknown; known are key and unit")
    if options.get("unit", "W") not in UNITS:
        raise InputError(f"{source}: unit {options['unit']!r} is not known; use one of {', '.join(UNITS)}")
    return options
