"""What a training reports while it runs, and the clock that it reads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """The state after one step.

    Attributes:
        epoch, epochs: The pass under way, from 0, and how many there are.
        step: Steps taken.
        fraction: Share of the run that is done, in (0, 1].
        elapsed_s: Seconds since the run (over all its resumptions), or its last part, began.
        terms: Loss terms by name.
        bits: Estimated bits of a whole latent, by index of the widths of the step; empty where there is none.
        learning_rate: Of the step; None where it is not told.
    """

    epoch: int
    epochs: int
    step: int
    fraction: float
    elapsed_s: float
    terms: Mapping[str, float]
    bits: Mapping[int, float] = field(default_factory=dict)
    learning_rate: float | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left at the pace so far."""
        return self.elapsed_s * (1.0 / self.fraction - 1.0)


class Tally:
    """Means over the steps of an epoch; plain values, so that a resumed epoch goes on counting."""

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        """Take the sums of an interrupted epoch, as `sums` gives them."""
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in (sums or {}).items()}

    def add(self, terms: Mapping[str, float], bits: Mapping[int, float]) -> None:
        """Count one step."""
        for name, value in {**terms, **{f"bits {index}": spent for index, spent in bits.items()}}.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            pair[0] += value
            pair[1] += 1.0

    def terms(self) -> dict[str, float]:
        """Return the mean of each loss term over the steps that had it."""
        return {name: mean for name, mean in self._means().items() if not name.startswith("bits ")}

    def bits(self) -> dict[int, float]:
        """Return the mean bits of a whole latent by width index."""
        means = self._means().items()
        return dict(sorted((int(name[5:]), mean) for name, mean in means if name.startswith("bits ")))

    def _means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}


class Clock:
    """Seconds of a run, counted on over resumptions."""

    def __init__(self, before_s: float, limit_s: float | None) -> None:
        """Take the seconds before this resumption, and the time limit."""
        self._started, self._before_s, self.limit_s = time.monotonic(), before_s, limit_s

    def elapsed_s(self) -> float:
        """Return the seconds so far, those before this resumption included."""
        return self._before_s + time.monotonic() - self._started

    def fraction(self) -> float:
        """Return the share of the time limit that has passed, 0 without one."""
        return 0.0 if self.limit_s is None else self.elapsed_s() / self.limit_s
