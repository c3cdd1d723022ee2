"""Layers without normalisation or width: what decoders are built of, and what encoders become at export."""

from __future__ import annotations

from torch import Tensor, nn


class PlainResidual(nn.Module):
    """Two 3×3 convolutions around a shortcut, without normalisation; also a materialised `SlimResidual`."""

    def __init__(self, conv1: nn.Conv2d, conv2: nn.Conv2d, *, rectified: bool) -> None:
        """Take the convolutions; `rectified` adds a ReLU after the sum."""
        super().__init__()
        self.conv1, self.conv2, self.rectified = conv1, conv2, rectified

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output, same shape."""
        total: Tensor = x_nchw + self.conv2(self.conv1(x_nchw).relu())
        return total.relu() if self.rectified else total


def residual(channels: int) -> PlainResidual:
    """Return an untrained residual block that begins as the identity."""
    first, second = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    # Without normalisation depth must not add variance at the start (Zhang et al., Fixup, 2019).
    for tensor in (first.bias, second.weight, second.bias):
        assert tensor is not None
        nn.init.zeros_(tensor)
    return PlainResidual(first, second, rectified=False)
