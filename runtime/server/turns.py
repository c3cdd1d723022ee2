"""Whose turn it is on a device that several tails share.

Pure: durations are arguments. Deficit round robin with the cost known afterwards (surplus round robin,
Adiseshu, Parulkar and Varghese 1996): whoever has credit may compute, what it took is charged, and every
round gives each one that waits the same credit. Over any stretch in which two wait all the time, their shares
of the device differ by at most a quantum and a batch each, however long the batches of one are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class Turns(Generic[K]):
    """The contenders for one device, each with its credit in seconds."""

    def __init__(self, quantum_s: float = 0.005) -> None:
        """Make an empty round in which each contender gets `quantum_s` of device time per round."""
        self.quantum_s = quantum_s
        self._credit_s: dict[K, float] = {}
        self._round: list[K] = []

    def join(self, one: K) -> None:
        """Let `one` contend, from the next round on."""
        self._credit_s[one] = 0.0
        self._round.append(one)

    def leave(self, one: K) -> None:
        """Let `one` contend no more."""
        del self._credit_s[one]
        self._round.remove(one)

    def next(self, waits: Callable[[K], bool]) -> K | None:
        """Return who computes next of those of whom `waits` holds; None if there is nobody."""
        waiting = []
        for one in self._round:
            if waits(one):
                waiting.append(one)
            else:
                # Credit is for those who wait: an idle contender saves none up. Its debts stay.
                self._credit_s[one] = min(self._credit_s[one], 0.0)
        if not waiting:
            return None
        chosen = next((one for one in waiting if self._credit_s[one] > 0.0), None)
        if chosen is None:
            self._give(waiting)
            chosen = next(one for one in waiting if self._credit_s[one] > 0.0)
        return chosen

    def charge(self, one: K, seconds: float) -> None:
        """Take what `one` has used from its credit; it moves to the end of the round when that is spent."""
        self._credit_s[one] -= seconds
        if self._credit_s[one] <= 0.0:
            self._round.remove(one)
            self._round.append(one)

    def _give(self, waiting: list[K]) -> None:
        """Give as many rounds at once as it takes until one of `waiting` has credit."""
        needed_s = min(-self._credit_s[one] for one in waiting)
        rounds = math.floor(needed_s / self.quantum_s) + 1
        for one in waiting:
            self._credit_s[one] += rounds * self.quantum_s
