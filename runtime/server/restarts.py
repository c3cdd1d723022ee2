"""When a dead worker is started again, and when that is given up. Pure: time is an argument."""

from __future__ import annotations


class Restarts:
    """The deaths of one worker."""

    def __init__(
        self, *, most: int = 5, quick_s: float = 10.0, first_s: float = 0.1, longest_s: float = 5.0
    ) -> None:
        """Give up after `most` quick deaths in a row.

        Args:
            most: Deaths in a row that are one too many.
            quick_s: A worker that lived longer has died for another reason than the ones before.
            first_s: Pause after the first death; each further one doubles it.
            longest_s: Longest pause.
        """
        self._most = most
        self._quick_s = quick_s
        self._first_s = first_s
        self._longest_s = longest_s
        self.quick_deaths = 0

    def pause_s(self, lived_s: float) -> float | None:
        """Return how long to wait after a death, `lived_s` seconds after the start; None: give up."""
        self.quick_deaths = self.quick_deaths + 1 if lived_s < self._quick_s else 1
        if self.quick_deaths >= self._most:
            return None
        return min(self._longest_s, self._first_s * 2.0 ** (self.quick_deaths - 1))
