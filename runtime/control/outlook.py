"""How fast the link may be during the next frame: a distribution, from the estimate and its past errors.

Pure. Every past error of the believed rate is as likely as the others. Once the oldest frame is overdue,
those that its silence has disproved are left out; if few or none remain, the link may also be far slower
still.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.control.residuals import HIGHEST
from isthmus.runtime.control.types import LinkEstimate

# Before any error was observed, and beside the first ones: a spread around the estimate, rather below it.
PRIOR_ERRORS = (-0.7, -0.35, -0.15, 0.0, 0.15, 0.35)
_FEW = 8
# An overdue frame may come now or much later: so far below the rate that its silence still allows, half a
# past error each.
_OVERDUE = (-0.1, -0.4, -1.0, -2.0)
_OVERDUE_WEIGHT = 0.5


class Outlook:
    """The rate during one frame, and what waits in front of it.

    Attributes:
        queued_bytes: Bytes in front of the frame.
        serving_s: Seconds the link has been at those.
    """

    __slots__ = ("_errors", "_log_rate", "_tail", "_total", "queued_bytes", "serving_s")

    def __init__(self, link: LinkEstimate, rate: float) -> None:
        """Read `link`, whose deliveries say `rate` > 0 bytes per second."""
        self._log_rate = math.log(rate)
        errors: Sequence[float] = link.residuals
        if len(errors) < _FEW:
            errors = sorted((*errors, *PRIOR_ERRORS))
        self._tail: tuple[float, ...] = ()
        self._total: float = len(errors)
        highest = HIGHEST
        if link.ceiling_bytes_per_s < math.inf:
            highest = math.log(max(link.ceiling_bytes_per_s, 1e-9)) - self._log_rate
        if highest < HIGHEST:
            errors = errors[: bisect_right(errors, highest)]
            self._tail = tuple(highest + below for below in _OVERDUE)
            self._total = len(errors) + _OVERDUE_WEIGHT * len(self._tail)
        self._errors = errors
        known = link.unanswered_bytes is not None
        self.queued_bytes = link.unanswered_bytes or 0 if known else link.backlog_bytes
        self.serving_s = link.serving_s if known else 0.0

    @classmethod
    def of(cls, link: LinkEstimate) -> Outlook | None:
        """Return the outlook; None if nothing is known of the rate, or the link is dead."""
        if not link.rate_bytes_per_s:
            return None
        return cls(link, link.steady_rate_bytes_per_s or link.rate_bytes_per_s)

    def probability(self, rate: float) -> float:
        """Return the probability that the link is at least at `rate` > 0 bytes per second."""
        error = math.log(rate) - self._log_rate
        errors = self._errors
        likely: float = len(errors) - bisect_left(errors, error)
        for other in self._tail:
            if other >= error:
                likely += _OVERDUE_WEIGHT
        return likely / self._total

    def quantiles(self, count: int) -> NDArray[np.float64]:
        """Return `count` rates about as likely as each other, in rising order."""
        errors = self._errors or self._tail[::-1]
        step = len(errors) / count
        return np.array(
            [math.exp(self._log_rate + errors[int((index + 0.5) * step)]) for index in range(count)]
        )
