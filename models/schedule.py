"""When what is trained: learning rate, stage, widths and channel counts as functions of progress and a seed.

Progress runs from 0 to 1. Everything random takes its generator as an argument, so that a resumed run
draws the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The course of a training.

    Attributes:
        warm_up: Share of the run in which the learning rate rises linearly.
        features: Share of the run that imitates features only (stage 1); the rest also imitates answers.
        full_width: Share of the run in which only the full width is trained (delayed shrinking).
    """

    warm_up: float = 0.02
    features: float = 0.5
    full_width: float = 0.4

    def rate(self, progress: float) -> float:
        """Return the factor on the learning rate: linear warm-up, then half a cosine down to 0."""
        if progress < self.warm_up:
            return progress / self.warm_up
        done = min(1.0, (progress - self.warm_up) / (1.0 - self.warm_up))
        return 0.5 * (1.0 + math.cos(math.pi * done))

    def answers(self, progress: float) -> bool:
        """Say whether stage 2 is reached, in which the teacher's answers are imitated as well."""
        return progress >= self.features

    def shares(self, progress: float, widths: int, generator: torch.Generator) -> list[tuple[int, float]]:
        """Return (width index, share of the batch) for one step.

        The sandwich rule (US-Nets): the widest, the narrowest and a random one between. Each takes a share
        of the batch instead of the whole, so that a step costs no more than at full width.
        """
        last = widths - 1
        if progress < self.full_width or widths == 1:
            return [(last, 1.0)]
        if widths == 2:
            return [(last, 0.5), (0, 0.5)]
        middle = int(torch.randint(1, last, (1,), generator=generator))
        return [(last, 0.4), (0, 0.3), (middle, 0.3)]


def batch_slices(shares: Sequence[tuple[int, float]], count: int) -> list[tuple[int, slice]]:
    """Divide `count` samples after `shares`; the first takes what rounding leaves, no slice is empty.

    A batch too small to give every width two samples (BatchNorm needs them) serves the first width alone.
    """
    sizes = [int(share * count) for _, share in shares]
    sizes[0] += count - sum(sizes)
    if min(sizes) < 2:
        return [(shares[0][0], slice(0, count))]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    parts = zip(shares, sizes, ends, strict=True)
    return [(width_index, slice(end - size, end)) for (width_index, _), size, end in parts]


def sample_counts(count: int, offered: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return how many leading channels each sample keeps, int64 [count] (nested dropout, Rippel 2014).

    Half keep all, a quarter one of the `offered` counts, a quarter any prefix: all prefixes stay valid,
    those that are offered are trained most.
    """
    full = offered[-1]
    kind = torch.rand(count, generator=generator)
    choice = torch.tensor(offered)[torch.randint(0, len(offered), (count,), generator=generator)]
    anything = torch.randint(1, full + 1, (count,), generator=generator)
    return torch.where(kind < 0.5, full, torch.where(kind < 0.75, choice, anything))
