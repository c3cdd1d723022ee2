"""When what is trained: learning rate, stage, widths and channel counts as functions of progress and a seed.

Progress runs from 0 to 1. Everything random takes its generator as an argument, so that a resumed run
draws the same numbers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isthmus.runtime.errors import InputError

Decay = Literal["cosine", "steps", "constant"]
Sandwich = Literal["shares", "whole"]

# BatchNorm needs as many samples of a width.
_LEAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The course of a training.

    Attributes:
        warm_up: Share of the run in which the learning rate rises linearly.
        features: Share of the run that imitates features only (stage 1); the rest also imitates answers.
        full_width: Share of the run in which only the full width is trained (delayed shrinking); 0: none.
        ramp: Share of the run, after that, in which the narrower widths' part in the loss rises to 1.
        ramp_start: Where it begins; with `ramp` 0 it counts fully at once.
        decay: How the learning rate falls after the warm-up: half a cosine to 0, in steps, or not.
        steps: Progress at which it is multiplied by `factor`, of the run or, with `restart`, of each stage.
        factor: See `steps`.
        restart: Whether stage 2 has a learning rate course of its own, without a warm-up.
        sandwich: "shares": the widths of a step share the batch, so that it costs no more than at full width;
            "whole": each sees all of it (US-Nets).
        random_widths: Widths per step beside the widest and the narrowest.
        width_shares: With "shares", the widest's and the narrowest's part of the batch; others get the rest.
    """

    warm_up: float = 0.02
    features: float = 0.5
    full_width: float = 0.4
    ramp: float = 0.0
    ramp_start: float = 0.1
    decay: Decay = "cosine"
    steps: tuple[float, ...] = ()
    factor: float = 0.1
    restart: bool = False
    sandwich: Sandwich = "shares"
    random_widths: int = 1
    width_shares: tuple[float, float] = (0.4, 0.3)

    def rate(self, progress: float) -> float:
        """Return the factor on the learning rate: linear warm-up, then the decay."""
        if progress < self.warm_up:
            return progress / self.warm_up
        start, end = self.warm_up, 1.0
        if self.restart:
            start, end = (self.features, 1.0) if self.answers(progress) else (start, self.features)
        done = min(1.0, (progress - start) / max(end - start, 1e-9))
        if self.decay == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        return self.factor ** bisect.bisect_right(self.steps, done) if self.decay == "steps" else 1.0

    def answers(self, progress: float) -> bool:
        """Say whether stage 2 is reached, in which the teacher's answers are imitated as well."""
        return progress >= self.features

    def narrow_weight(self, progress: float) -> float:
        """Return the part of every width but the widest in the loss, in (0, 1]."""
        if self.ramp == 0.0 or self.full_width == 0.0:
            return 1.0
        risen = min(1.0, max(0.0, (progress - self.full_width) / self.ramp))
        return self.ramp_start + (1.0 - self.ramp_start) * risen

    def widths(self, progress: float, widths: int, generator: torch.Generator) -> list[int]:
        """Return the width indices of one step, the widest first.

        The sandwich rule (US-Nets): the widest, the narrowest and random ones between.
        """
        last = widths - 1
        if progress < self.full_width or widths == 1:
            return [last]
        between = min(self.random_widths, widths - 2)
        if between < 1:
            return [last, 0]
        drawn = 1 + torch.randperm(widths - 2, generator=generator)[:between]
        return [last, 0, *(int(index) for index in drawn)]

    def parts(self, width_indices: Sequence[int], count: int) -> list[tuple[int, slice]]:
        """Return (width index, samples of the batch of `count` that it encodes) for one step."""
        if self.sandwich == "whole" or len(width_indices) == 1:
            return [(index, slice(0, count)) for index in width_indices]
        widest, narrowest = self.width_shares
        if len(width_indices) == 2:  # in the same proportion
            widest, narrowest = (part / (widest + narrowest) for part in (widest, narrowest))
        rest = (1.0 - widest - narrowest) / max(1, len(width_indices) - 2)
        shares = [widest, narrowest, *[rest] * (len(width_indices) - 2)]
        return batch_slices(list(zip(width_indices, shares, strict=True)), count)

    def check_widths(self, widths: int, count: int) -> None:
        """Refuse a course that never trains one of so many `widths` on batches of `count` samples.

        Raises:
            InputError: If there is such a width.
        """
        if widths == 1:
            return
        if self.full_width >= 1.0:
            raise InputError(
                f"full_width_share {self.full_width:g}: the narrower of {widths} widths would never be "
                "trained; give less than 1, or --widths 1"
            )
        if widths > 2 and self.random_widths < 1:
            raise InputError(
                f"random_widths {self.random_widths}: of {widths} widths the widest and the narrowest alone "
                "would be trained; give at least 1"
            )
        step = self.widths(1.0, widths, torch.Generator())
        if len(self.parts(step, count)) == len(step):
            return
        shares = ",".join(f"{share:g}" for share in self.width_shares)
        raise InputError(
            f"width_shares {shares}: in batches of {count} images some of {widths} widths would have fewer "
            f"than {_LEAST}, and the widest alone would be trained; give larger batches, less to the widest "
            "and the narrowest, or sandwich whole"
        )


def batch_slices(shares: Sequence[tuple[int, float]], count: int) -> list[tuple[int, slice]]:
    """Divide `count` samples after `shares`; the first takes what rounding leaves, no slice is empty.

    A batch too small to give every width two samples (BatchNorm needs them) serves the first width alone.
    """
    sizes = [int(share * count) for _, share in shares]
    sizes[0] += count - sum(sizes)
    if min(sizes) < _LEAST:
        return [(shares[0][0], slice(0, count))]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    parts = zip(shares, sizes, ends, strict=True)
    return [(width_index, slice(end - size, end)) for (width_index, _), size, end in parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedDropout:
    """Which leading channels a sample keeps while it trains (Rippel et al., 2014).

    Attributes:
        full: Share of the samples that keep all.
        offered: Share that keeps one of the counts offered; the rest keeps any prefix. So all prefixes stay
            valid codes, those that are offered are trained most.
        shares: Of the offered counts among themselves; empty: equal.
    """

    full: float = 0.5
    offered: float = 0.25
    shares: tuple[float, ...] = ()

    def check(self, offered: Sequence[int]) -> None:
        """Refuse shares that do not fit the counts `offered`.

        Raises:
            InputError: If they are fewer or more, negative, or all zero.
        """
        shown = f"count_shares {','.join(f'{share:g}' for share in self.shares)}"
        if len(self.shares) not in (0, len(offered)):
            raise InputError(
                f"{shown}: {len(self.shares)} for the channel counts {tuple(offered)}; "
                f"give {len(offered)}, or none"
            )
        if self.shares and (min(self.shares) < 0 or not sum(self.shares)):
            raise InputError(f"{shown}: give none below 0, and one above")

    def counts(self, count: int, offered: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return how many leading channels each of `count` samples keeps, int64 [count]."""
        whole = offered[-1]
        kind = torch.rand(count, generator=generator)
        chances = torch.tensor(self.shares or (1.0,) * len(offered))
        choice = torch.tensor(offered)[
            torch.multinomial(chances, count, replacement=True, generator=generator)
        ]
        anything = torch.randint(1, whole + 1, (count,), generator=generator)
        return torch.where(
            kind < self.full, whole, torch.where(kind < self.full + self.offered, choice, anything)
        )
