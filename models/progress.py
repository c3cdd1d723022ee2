"""What a training reports while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """The state after one step.

    Attributes:
        epoch, epochs: The pass under way, from 0, and how many there are.
        step: Steps taken.
        fraction: Share of the run that is done, in (0, 1].
        elapsed_s: Seconds since the run (over all its resumptions), or its last part, began.
        terms: Loss terms by name.
        bits: Estimated bits of a whole latent; None where there is none.
    """

    epoch: int
    epochs: int
    step: int
    fraction: float
    elapsed_s: float
    terms: Mapping[str, float]
    bits: float | None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left at the pace so far."""
        return self.elapsed_s * (1.0 / self.fraction - 1.0)
