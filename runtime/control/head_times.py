"""What each head takes now, though only the one in use is being measured.

Pure. A device that gets hot, or has other work, slows all its heads; the times of those not used lately are
from before. So a change of the head in use, against what was expected of it, is taken to have hit the others
alike, until they have been used often enough themselves to move the median that the device keeps of each.
"""

from __future__ import annotations

from collections.abc import Mapping

# A median of a few runs jitters by some percent; smaller changes say nothing about other heads.
_NOISE = 0.08
_LARGEST_FACTOR = 20.0
# The device reports the median of the last nine runs: five of them move it.
_RUNS_TO_TRUST = 5


class HeadTimes:
    """Head times per width index, the stale ones corrected.

    Attributes:
        slowdown: How much slower the device is than when it warmed its heads up.
    """

    def __init__(self, table_s: Mapping[int, float]) -> None:
        """Start from the bundle's table, for widths that the device does not measure."""
        self._table_s = dict(table_s)
        self.slowdown = 1.0
        self._slowdown_then: dict[int, float] = {}
        self._expected_s: dict[int, float] = {}
        self._runs: dict[int, int] = {}

    def now(self, measured_s: Mapping[int, float], in_use: int | None) -> Mapping[int, float]:
        """Return seconds per width index.

        Args:
            measured_s: As measured last, however long ago.
            in_use: The width that the last frame took; None: none yet, or none since the last call.
        """
        if in_use is not None and in_use in measured_s:
            self._note(in_use, measured_s[in_use])
        if self.slowdown == 1.0 and not self._slowdown_then and self._table_s.keys() <= measured_s.keys():
            return measured_s
        heads = {width: self._corrected_s(width, seconds) for width, seconds in measured_s.items()}
        for width, seconds in self._table_s.items():
            heads.setdefault(width, seconds * self.slowdown)
        return heads

    def _note(self, width: int, measured_s: float) -> None:
        runs = self._runs.get(width, _RUNS_TO_TRUST) + 1
        self._runs[width] = runs
        if runs < _RUNS_TO_TRUST:
            return
        expected_s = self._corrected_s(width, self._expected_s.setdefault(width, measured_s))
        if expected_s > 0 and abs(measured_s / expected_s - 1.0) > _NOISE:
            changed = self.slowdown * measured_s / expected_s
            self.slowdown = min(_LARGEST_FACTOR, max(1.0 / _LARGEST_FACTOR, changed))
            self._runs = dict.fromkeys(self._runs, 0) | dict.fromkeys(self._table_s, 0)
            self._runs[width] = runs
            self._expected_s[width] = measured_s
            self._slowdown_then[width] = self.slowdown
        elif self._slowdown_then.get(width, 1.0) != self.slowdown:
            self._expected_s[width] = measured_s
            self._slowdown_then[width] = self.slowdown

    def _corrected_s(self, width: int, seconds: float) -> float:
        return seconds * self.slowdown / self._slowdown_then.get(width, 1.0)
