"""The robust point estimate: the harmonic mean of the last rates, discounted by the worst recent error.

After RobustMPC (Yin, Jindal, Sekar, Sinopoli: A Control-Theoretic Approach for Dynamic Adaptive Video
Streaming over HTTP, SIGCOMM 2015, section 5.3): a lower bound of the throughput is the estimate over one plus
the largest relative error among the last five predictions. Here per frame instead of per video chunk, and
with probing.
"""

from __future__ import annotations

from collections import deque
from statistics import harmonic_mean

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.point_estimate import PointEstimatePolicy, Samples
from isthmus.runtime.control.types import LinkEstimate

_WINDOW = 5


class RobustGuess:
    """Keeps the last rates, and how wrong their harmonic mean was as a prediction of the next."""

    def __init__(self) -> None:
        """Start without a rate."""
        self._samples = Samples()
        self._rates: deque[float] = deque(maxlen=_WINDOW)
        self._errors: deque[float] = deque(maxlen=_WINDOW)

    def __call__(self, link: LinkEstimate) -> float | None:
        """Return the rate to reckon with; None before any evidence."""
        for rate in self._samples.new(link):
            if self._rates:
                self._errors.append(abs(harmonic_mean(self._rates) - rate) / rate)
            self._rates.append(rate)
        if not self._rates:
            return None
        return harmonic_mean(self._rates) / (1.0 + max(self._errors, default=0.0))


def robust_policy(points: PointTable) -> PointEstimatePolicy:
    """Return the policy `robust`."""
    return PointEstimatePolicy("robust", points, RobustGuess())
