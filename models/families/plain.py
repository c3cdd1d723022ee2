"""Layers without normalisation or width: what decoders are built of, and what encoders become at export."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainResidual(nn.Module):
    """Two 3×3 convolutions around a shortcut, without normalisation; also a materialised `SlimResidual`."""

    def __init__(
        self, conv1: nn.Conv2d, conv2: nn.Conv2d, *, rectified: bool, shortcut: nn.Module | None = None
    ) -> None:
        """Take the convolutions; `rectified` adds a ReLU after the sum; the `shortcut` may be no identity."""
        super().__init__()
        self.conv1, self.conv2, self.rectified, self.shortcut = conv1, conv2, rectified, shortcut

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        kept = x_nchw if self.shortcut is None else self.shortcut(x_nchw)
        total: Tensor = kept + self.conv2(self.conv1(x_nchw).relu())
        return total.relu() if self.rectified else total


def padded(x_nchw: Tensor, stride: int, missing: int) -> Tensor:
    """Return every `stride`-th pixel of features, with `missing` channels of zeros behind them."""
    if stride > 1:
        x_nchw = x_nchw[:, :, ::stride, ::stride]
    return F.pad(x_nchw, (0, 0, 0, 0, 0, missing)) if missing else x_nchw


def selecting(channels: int, missing: int, stride: int) -> nn.Conv2d:
    """Return a convolution that does what `padded` does, exactly.

    Its weights are ones and zeros. Slices and pads would make ONNX Runtime leave the layout, and the bytes,
    that convolutions compute in: this takes less time, above all in 8 bits.
    """
    return plain_conv(
        torch.eye(channels + missing, channels)[:, :, None, None],
        torch.ones(channels + missing),
        torch.zeros(channels + missing),
        stride,
    )


class Shortcut(nn.Sequential):
    """Layers whose input is added to their output; also a materialised `SlimInverted`."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum, same shape."""
        y_nchw = x_nchw
        for layer in self:
            y_nchw = layer(y_nchw)
        return x_nchw + y_nchw


class Resize(nn.Module):
    """Bilinear interpolation to a plane that no power of two leads to; the borders stay where they are."""

    def __init__(self, height: int, width: int) -> None:
        """Take the plane."""
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return [n, c, height, width]."""
        return F.interpolate(x_nchw, (self.height, self.width), mode="bilinear", align_corners=False)


def residual(channels: int) -> nn.Module:
    """Return an untrained residual block that begins as the identity."""
    first, second = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
    _initialise([first], second)
    return PlainResidual(first, second, rectified=False)


def inverted(channels: int, kernel: int, expansion: int) -> nn.Module:
    """Return an untrained inverted residual block that begins as the identity."""
    hidden = channels * expansion
    first = nn.Conv2d(channels, hidden, 1)
    depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
    last = nn.Conv2d(hidden, channels, 1)
    _initialise([first, depthwise], last)
    return Shortcut(first, nn.ReLU(), depthwise, nn.ReLU(), last)


def _initialise(layers: list[nn.Conv2d], last: nn.Conv2d) -> None:
    # Without normalisation depth must not add variance at the start (Zhang et al., Fixup, 2019).
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def affine(gain: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a convolution that multiplies each channel by its `gain` [c] and adds its `bias` [c]."""
    return plain_conv(torch.ones(len(gain), 1, 1, 1), gain, bias, groups=len(gain))


def plain_conv(
    weight: Tensor, gain: Tensor, bias: Tensor, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution by `weight` [out, in, k, k], times `gain` [out], plus `bias` [out]."""
    scaled = weight.detach().double() * gain.detach().double()[:, None, None, None]
    out_channels, in_channels, kernel_size, _ = scaled.shape
    plain = nn.Conv2d(in_channels * groups, out_channels, kernel_size, stride, padding, groups=groups)
    assert plain.bias is not None
    with torch.no_grad():
        plain.weight.copy_(scaled)
        plain.bias.copy_(bias)
    return plain.requires_grad_(False)


def within_reach(plane: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Say whether one interpolation may lead from `plane` to `wanted`: to between half and four times it."""
    ratios = [goal / size for size, goal in zip(plane, wanted, strict=True)]
    return min(ratios) >= 0.5 and max(ratios) <= 4 and max(ratios) <= 1.5 * min(ratios)
