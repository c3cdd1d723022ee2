"""An exponentially weighted moving average of the rate, and a constant share of it as safety.

The textbook estimator (Jacobson's filter, as most adaptive streaming uses it), with probing.
"""

from __future__ import annotations

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.point_estimate import PointEstimatePolicy, Samples
from isthmus.runtime.control.types import LinkEstimate

_ALPHA = 0.4
_SAFETY = 0.85


class Ewma:
    """The average; each new sample has the weight `alpha`."""

    def __init__(self, alpha: float = _ALPHA) -> None:
        """Start without a rate."""
        self._alpha = alpha
        self._samples = Samples()
        self._rate: float | None = None

    def __call__(self, link: LinkEstimate) -> float | None:
        """Return the average bytes per second; None before any evidence."""
        for rate in self._samples.new(link):
            self._rate = rate if self._rate is None else self._rate + self._alpha * (rate - self._rate)
        return self._rate


class _SafeEwma(Ewma):
    def __call__(self, link: LinkEstimate) -> float | None:
        rate = super().__call__(link)
        return None if rate is None else _SAFETY * rate


def ewma_policy(points: PointTable) -> PointEstimatePolicy:
    """Return the policy `ewma`."""
    return PointEstimatePolicy("ewma", points, _SafeEwma())
