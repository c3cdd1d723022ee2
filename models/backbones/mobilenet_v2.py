"""MobileNetV2 of width 1 (Sandler et al. 2018, table 2), with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from isthmus.models.backbones.blocks import ConvNormActivation, initialise

# expansion, channels, blocks, stride of the first
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter each channel by 3×3, project by 1×1 without activation; a shortcut if it fits."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expansion: int,
        convolution: Callable[..., nn.Module],
    ) -> None:
        """Take the shape of the block and what makes its convolutions with norm and activation."""
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [convolution(in_channels, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        output: Tensor = self.conv(x_nchw)
        return x_nchw + output if self.adds else output


class MobileNetV2(nn.Module):
    """Nineteen features, of which 0 and 18 are plain convolutions, and a classifier."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, trailing_pad: bool = False) -> None:
        """Build the network.

        Args:
            num_classes: Length of the logits.
            in_channels: Channels of the image.
            trailing_pad: Whether convolutions of stride 2 pad below and at the right only, which weights
                trained in TensorFlow need.
        """
        super().__init__()
        convolution = partial(ConvNormActivation, activation=nn.ReLU6, trailing_pad=trailing_pad)
        layers: list[nn.Module] = [convolution(in_channels, _STEM, 3, 2)]
        channels = _STEM
        for expansion, out_channels, blocks, stride in _STAGES:
            for index in range(blocks):
                step = stride if index == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, step, expansion, convolution))
                channels = out_channels
        layers.append(convolution(channels, _LAST, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_LAST, num_classes))
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x_nchw)).flatten(1))
        return logits
