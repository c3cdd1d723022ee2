"""Building blocks that several convolutional networks share, with the parameter names of torchvision's.

Convolution, norm and activation stand in one `Sequential` as 0, 1 and 2; a squeeze-and-excitation gate has
the 1×1 convolutions `fc1` and `fc2`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class TrailingPadConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 2 that pads one row below and one column at the right.

    That is what "same" padding means in TensorFlow for an even size; networks trained there need it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Return [n, channels, h/2, w/2] of [n, c, h, w] with even h and w."""
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class ConvNormActivation(nn.Sequential):
    """A convolution without bias, a BatchNorm and, if any, an activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: Layer = nn.BatchNorm2d,
        activation: Layer | None = nn.ReLU,
        trailing_pad: bool = False,
    ) -> None:
        """Build the block; a stride of 1 keeps the size, one of 2 halves it.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel: Side of the square kernel, odd.
            stride: Of the convolution.
            groups: `in_channels` for a depthwise convolution.
            norm: Makes the norm from the number of channels.
            activation: Makes the activation; None for none.
            trailing_pad: Whether a stride of 2 pads below and at the right only.
        """
        if trailing_pad and stride == 2:
            assert kernel == 3, "trailing padding is defined for 3×3 only"
            convolution: nn.Conv2d = TrailingPadConv2d(
                in_channels, out_channels, kernel, stride, 0, groups=groups, bias=False
            )
        else:
            convolution = nn.Conv2d(
                in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
            )
        layers = [convolution, norm(out_channels)]
        super().__init__(*layers, *([] if activation is None else [activation()]))


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate computed from the means of all channels (Hu et al. 2018, §3)."""

    def __init__(self, channels: int, squeezed: int, *, activation: Layer, gate: Layer) -> None:
        """Take the channels, those between the two layers, and the activation of each of these."""
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.scale_activation = gate()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the scaled input."""
        hidden = self.activation(self.fc1(self.avgpool(x_nchw)))
        scaled: Tensor = x_nchw * self.scale_activation(self.fc2(hidden))
        return scaled


def divisible(channels: float, by: int = 8) -> int:
    """Return the multiple of `by` nearest to `channels`, but none that is more than 10 % below it."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def initialise(network: nn.Module) -> None:
    """Give convolutions weights that keep the variance of gradients (He et al. 2015, eq. 14).

    Norms start as identities, fully connected layers with small weights and no bias.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
