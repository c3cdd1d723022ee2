"""EfficientNet-B0 (Tan and Le 2019, table 1), with torchvision's parameter names.

Stochastic depth, which has no parameters and only regularises training from scratch, is left out.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from isthmus.models.backbones.blocks import ConvNormActivation, SqueezeExcitation, initialise

# expansion, kernel, stride of the first, channels, blocks
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _LAST = 32, 1280
_convolution = partial(ConvNormActivation, activation=nn.SiLU)


class MBConv(nn.Module):
    """Expand, filter each channel, gate, project; a shortcut if it fits."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        """Take the block's shape; the gate squeezes to a quarter of the input's channels."""
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [_convolution(in_channels, hidden, 1)]
        self.block = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, kernel, stride, groups=hidden),
            SqueezeExcitation(hidden, max(1, in_channels // 4), activation=nn.SiLU, gate=nn.Sigmoid),
            ConvNormActivation(hidden, out_channels, 1, activation=None),
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        output: Tensor = self.block(x_nchw)
        return x_nchw + output if self.adds else output


class EfficientNetB0(nn.Module):
    """Nine features (stem, seven stages, last convolution) and a classifier."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Take the classes and the image's channels."""
        super().__init__()
        stages: list[nn.Module] = [_convolution(in_channels, _STEM, 3, 2)]
        channels = _STEM
        for expansion, kernel, stride, out_channels, blocks in _STAGES:
            first = MBConv(channels, out_channels, kernel, stride, expansion)
            rest = (MBConv(out_channels, out_channels, kernel, 1, expansion) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
            channels = out_channels
        stages.append(_convolution(channels, _LAST, 1))
        self.features = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_LAST, num_classes))
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x_nchw)).flatten(1))
        return logits
