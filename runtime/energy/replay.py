"""A meter that says again what another one said: for tests, and for looking at a run twice.

The file has JSON lines; those with `at_s` and `energy_j` count, so a run's event log is such a file. What was
modelled when it was recorded is no measurement because it is played again: the label stays.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.runtime.errors import InputError


class _Line(msgspec.Struct, frozen=True):
    at_s: float | None = None
    energy_j: float | None = None
    energy_source: str | None = None


class ReplayMeter:
    """Replays the joules of a recording, starting with its first line that has some.

    Args:
        file: The recording.
        clock: Monotonic seconds.

    Raises:
        InputError: If the file cannot be read, or knows no joules.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.trouble: str | None = None
        self._at_s, self._energy_j, self.measured = _recording(file)
        self.source = f"replay:{file}" if self.measured else f"model:replay:{file}"
        self._clock = clock
        self._opened_s = clock()

    def read_j(self) -> float | None:
        """See `EnergyMeter`: interpolated between two lines; unknown after the last."""
        at_s = self._at_s[0] + self._clock() - self._opened_s
        if at_s > self._at_s[-1]:
            self.trouble = f"{self.source}: the recording ended"
            return None
        after = bisect.bisect_right(self._at_s, at_s)
        if after == len(self._at_s):
            return self._energy_j[-1] - self._energy_j[0]
        before = after - 1
        share = (at_s - self._at_s[before]) / (self._at_s[after] - self._at_s[before])
        grown_j = share * (self._energy_j[after] - self._energy_j[before])
        return self._energy_j[before] + grown_j - self._energy_j[0]

    def close(self) -> None:
        """See `EnergyMeter`."""


def _recording(file: Path) -> tuple[list[float], list[float], bool]:
    """Return instants, joules, and whether all of these were measured."""
    at_s: list[float] = []
    energy_j: list[float] = []
    measured = True
    try:
        with file.open("rb") as lines:
            for number, text in enumerate(lines, start=1):
                try:
                    line = msgspec.json.decode(text, type=_Line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    if not text.endswith(b"\n"):
                        break  # a writer that was killed
                    raise InputError(
                        f"{file}:{number}: no JSON object with at_s and energy_j: {error}"
                    ) from None
                if line.at_s is None or line.energy_j is None:
                    continue
                if at_s and (line.at_s <= at_s[-1] or line.energy_j < energy_j[-1]):
                    raise InputError(
                        f"{file}:{number}: time or joules run backwards; give one run's recording"
                    )
                at_s.append(line.at_s)
                energy_j.append(line.energy_j)
                measured = measured and not (line.energy_source or "").startswith("model:")
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror or error}; give a recording, as an agent's event log"
        ) from None
    if len(at_s) < 2:
        raise InputError(f"{file}: fewer than two lines have joules; record a run with a meter")
    return at_s, energy_j, measured
