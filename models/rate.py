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
    """The price of a bit, one per width, steered so that the mean latent costs `target_bits`.

    A single price for all widths is a documented failure (SlimCAE): a narrow encoder needs its own.
    """

    # How fast a price follows: about 50 steps for a factor of e when the rate is off by that factor.
    SPEED = 0.02
    LOWEST, HIGHEST = 1e-8, 1e-2

    def __init__(self, prices: Sequence[float], target_bits: float | None) -> None:
        """Take the first price per width, in loss per bit, and the target; None keeps the prices fixed."""
        self.prices, self.target_bits = list(prices), target_bits

    def update(self, width_index: int, bits: float) -> None:
        """Learn that latents of `width_index` now cost `bits` on average."""
        if self.target_bits is None:
            return
        excess = max(-1.0, min(1.0, math.log(max(bits, _FLOOR) / self.target_bits)))
        price = self.prices[width_index] * math.exp(self.SPEED * excess)
        self.prices[width_index] = max(self.LOWEST, min(self.HIGHEST, price))
