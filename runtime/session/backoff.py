"""How long to wait before the next attempt to reach a server.

Full jitter: every delay is drawn from [0, ceiling], and the ceiling doubles. Agents that lost the same server
at the same instant then come back spread out, not in step.
"""

from __future__ import annotations

import random


class FullJitter:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015).

    Args:
        base_s: Ceiling of the first delay, unless the cap is below it.
        cap_s: No ceiling grows beyond it.
        rng: Where the draws come from; tests pass a seeded one.
    """

    def __init__(self, *, base_s: float = 0.1, cap_s: float = 5.0, rng: random.Random | None = None) -> None:
        assert min(base_s, cap_s) > 0.0
        self.base_s = base_s
        self.cap_s = cap_s
        self.attempts = 0
        self._rng = rng or random.Random()

    @property
    def ceiling_s(self) -> float:
        """The largest delay that `next_s` may return now."""
        # The exponent is bounded because 2 ** 1024 no longer fits a float: an agent may try for days.
        return float(min(self.cap_s, self.base_s * 2.0 ** min(self.attempts, 64)))

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt, and double the ceiling."""
        delay_s = self._rng.uniform(0.0, self.ceiling_s)
        self.attempts += 1
        return delay_s

    def reset(self) -> None:
        """Start again from `base_s`: the server has proved that it answers."""
        self.attempts = 0
