"""The last convolution of an encoder, onto all latent channels: shared by the widths, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.models.families.layers import SlimConv2d


class SharedProjection(nn.Module):
    """One 1×1 convolution, sliced, with a gain and a bias per width that fold away at export."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        """Take the features' channels per width index and the latent's."""
        super().__init__()
        widths = len(in_channels)
        self.conv = SlimConv2d(in_channels, (channels,) * widths, 1)
        self.gain = nn.Parameter(torch.ones(widths, channels))
        self.bias = nn.Parameter(torch.zeros(widths, channels))
        with torch.no_grad():  # unit variance of the latent for unit variance of the features
            self.conv.weight.mul_(0.5**0.5)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent [n, channels, h, w]."""
        y_nchw: Tensor = self.conv(x_nchw, width_index)
        return y_nchw * self.gain[width_index, :, None, None] + self.bias[width_index, :, None, None]

    def materialise(self, width_index: int) -> nn.Conv2d:
        """Return it at one width as a plain convolution."""
        return self.conv.materialise(width_index, self.gain[width_index], self.bias[width_index])


class PrivateProjection(nn.ModuleList):
    """One 1×1 convolution per width."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        """Take the features' channels per width index and the latent's."""
        super().__init__(nn.Conv2d(count, channels, 1) for count in in_channels)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent [n, channels, h, w]."""
        y_nchw: Tensor = self[width_index](x_nchw)
        return y_nchw

    def materialise(self, width_index: int) -> nn.Conv2d:
        """Return a copy of the convolution of one width."""
        own = cast("nn.Conv2d", self[width_index])
        plain = nn.Conv2d(own.in_channels, own.out_channels, 1)
        plain.load_state_dict(own.state_dict())
        return plain.requires_grad_(False)
