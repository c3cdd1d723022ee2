"""The harmonic mean of the last five rates: single fast frames do not raise it much.

After FESTIVE (Jiang, Sekar, Zhang: Improving Fairness, Efficiency, and Stability in HTTP-based Adaptive Video
Streaming, CoNEXT 2012), which takes it over 20 video chunks; five is RobustMPC's window. With probing.
"""

from __future__ import annotations

from statistics import harmonic_mean

from isthmus.runtime.bundle import PointTable
from isthmus.runtime.control.point_estimate import PointEstimatePolicy
from isthmus.runtime.control.types import LinkEstimate

_WINDOW = 5


def _guess(link: LinkEstimate) -> float | None:
    return harmonic_mean(link.samples[-_WINDOW:]) if link.samples else None


def harmonic_policy(points: PointTable) -> PointEstimatePolicy:
    """Return the policy `harmonic`."""
    return PointEstimatePolicy("harmonic", points, _guess)
