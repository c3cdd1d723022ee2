"""How long a batch of n latents takes: a·n + b seconds, fitted while serving.

Pure: durations are arguments. Recursive least squares in information form with exponential forgetting
(Ljung, System Identification, §11) over errors relative to the prediction, so that a batch of one counts as
much as one of thirty-two. A duration far from its prediction counts as one less far: a stall of the machine
moves little, a lasting change is learned all the same.
"""

from __future__ import annotations

# The share of what was known that is left after one more batch: about thirty batches are remembered.
_FORGET = 0.97
# A duration counts as at most so many times longer or shorter than predicted, once a few were seen.
_FURTHEST = 2.0
_TRUSTED_AFTER = 8
# What batches of one size cannot tell, slope or base, stays as it was by this pull, a share of what they do.
_PULL = 1e-3
_SHORTEST_S = 1e-7
_LONGEST_S = 1e6


class LatencyModel:
    """A line through the durations seen.

    Attributes:
        slope_s: Seconds per latent, not negative.
        base_s: Seconds per batch, not negative.
        observed: How many batches it was fitted to.
    """

    def __init__(self) -> None:
        """Make a model that has seen nothing."""
        self.slope_s = 0.0
        self.base_s = 0.0
        self.observed = 0
        # Sums over batches of (n/p)², n/p², 1/p², and of t·n/p², t/p²; p is the prediction, t the duration.
        self._nn = self._n1 = self._11 = 0.0
        self._tn = self._t1 = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch of `rows` ≥ 1 latents that took `seconds`."""
        seconds = min(max(seconds, _SHORTEST_S), _LONGEST_S)
        if not self.observed:
            # One point says nothing of the slope: half and half.
            self.slope_s, self.base_s = 0.5 * seconds / rows, 0.5 * seconds
        predicted_s = max(self.predict_s(rows), _SHORTEST_S)
        if self.observed >= _TRUSTED_AFTER:
            seconds = min(max(seconds, predicted_s / _FURTHEST), predicted_s * _FURTHEST)
        self.observed += 1
        n, one = rows / predicted_s, 1.0 / predicted_s
        duration = seconds / predicted_s
        self._nn = _FORGET * self._nn + n * n
        self._n1 = _FORGET * self._n1 + n * one
        self._11 = _FORGET * self._11 + one * one
        self._tn = _FORGET * self._tn + duration * n
        self._t1 = _FORGET * self._t1 + duration * one
        self._solve()

    def predict_s(self, rows: int) -> float:
        """Return the seconds that a batch of `rows` latents is expected to take; 0 before any was seen."""
        return self.slope_s * rows + self.base_s

    def largest(self, seconds: float, max_rows: int) -> int:
        """Return the most rows, 0 to `max_rows`, that are expected to take no longer than `seconds`."""
        if self.predict_s(max_rows) <= seconds:
            return max_rows
        if self.predict_s(1) > seconds:
            return 0
        rows = int((seconds - self.base_s) / self.slope_s)
        # Rounding may be off by one either way.
        return max(1, min(max_rows, rows if self.predict_s(rows) <= seconds else rows - 1))

    def _solve(self) -> None:
        pull_n, pull_1 = _PULL * self._nn, _PULL * self._11
        nn, n1, one = self._nn + pull_n, self._n1, self._11 + pull_1
        tn = self._tn + pull_n * self.slope_s
        t1 = self._t1 + pull_1 * self.base_s
        determinant = nn * one - n1 * n1
        slope_s = (tn * one - t1 * n1) / determinant
        base_s = (t1 * nn - tn * n1) / determinant
        # A negative one becomes zero, and the other is fitted alone.
        if base_s < 0.0:
            slope_s, base_s = self._tn / self._nn, 0.0
        elif slope_s < 0.0:
            slope_s, base_s = 0.0, self._t1 / self._11
        self.slope_s, self.base_s = slope_s, base_s
