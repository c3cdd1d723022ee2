"""What a latent costs on the wire, as something gradients pass through, and the price put on it.

The estimate is a discretised logistic per (width, channel): static, like the tables the codec will ship, so
that a latent that is cheap here is cheap there. The real tables follow the measured histogram, no dearer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Below this probability the estimate stops growing: one symbol costs at most about 30 bits.
_FLOOR = 1e-9


class LatentPrior(nn.Module):
    """A learned factorised prior over latent levels, one logistic per width and channel."""

    def __init__(self, widths: int, channels: int) -> None:
        """Take the number of widths and of latent channels."""
        super().__init__()
        self.location = nn.Parameter(torch.zeros(widths, channels))
        self.log_spread = nn.Parameter(torch.full((widths, channels), math.log(2.0)))

    def bits(self, levels_nchw: Tensor, width_index: int) -> Tensor:
        """Return the estimated bits [n, channels] of levels of one width.

        P(q) = F(q + ½) − F(q − ½), F logistic (after Ballé et al., 2017), evaluated in the lower tail, where
        the difference keeps its digits.
        """
        location = self.location[width_index, :, None, None]
        spread = self.log_spread[width_index].exp()[:, None, None]
        below = -(levels_nchw.float() - location).abs()
        probability = torch.sigmoid((below + 0.5) / spread) - torch.sigmoid((below - 0.5) / spread)
        return -probability.clamp_min(_FLOOR).log2().sum(dim=(2, 3))


class RatePrice:
    """The price of a bit, per width and, if asked, per run of channels, steered to target sizes.

    A single price for all widths is a documented failure (SlimCAE): a narrow encoder needs its own. With
    targets per channel count, the channels that a longer prefix adds have a price of their own too.
    """

    # About 50 steps for a factor of e when the rate is off by that factor.
    SPEED = 0.02
    # A price that fell lower than this takes thousands of steps to be felt again.
    LOWEST, HIGHEST = 1e-7, 1e-2

    def __init__(
        self,
        first: Sequence[float],
        counts: Sequence[int],
        target_bits: Sequence[Sequence[float]] | None = None,
        speed: float = SPEED,
    ) -> None:
        """Take the first prices and what they are steered to.

        Args:
            first: Per width, in loss per bit.
            counts: Prefix lengths that targets are given for, ascending; the last is the whole latent.
            target_bits: Per width and count, the mean bits of that prefix; None keeps the prices fixed.
            speed: How fast the prices follow.
        """
        self.counts = tuple(counts)
        self.prices = [[price] * len(self.counts) for price in first]
        self.target_bits, self._speed = target_bits, speed

    def per_channel(self, width_index: int) -> Tensor:
        """Return the price of each channel's bits at `width_index`, [channels]."""
        lengths = [end - start for start, end in zip((0, *self.counts), self.counts, strict=False)]
        return torch.tensor(self.prices[width_index]).repeat_interleave(torch.tensor(lengths))

    def update(self, width_index: int, bits_c: Sequence[float]) -> None:
        """Learn what the channels of a latent of `width_index` now cost on average, in bits."""
        if self.target_bits is None:
            return
        for index, (count, target) in enumerate(zip(self.counts, self.target_bits[width_index], strict=True)):
            spent = max(sum(bits_c[:count]), _FLOOR)
            excess = max(-1.0, min(1.0, math.log(spent / target)))
            price = self.prices[width_index][index] * math.exp(self._speed * excess)
            self.prices[width_index][index] = max(self.LOWEST, min(self.HIGHEST, price))

    def share(self, width_index: int) -> None:
        """Give every width the prices of `width_index`, as long as it is the only one that is trained."""
        self.prices = [list(self.prices[width_index]) for _ in self.prices]
