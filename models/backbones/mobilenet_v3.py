"""MobileNetV3-Large (Howard et al. 2019, table 1), with torchvision's parameter names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from isthmus.models.backbones.blocks import ConvNormActivation, SqueezeExcitation, divisible, initialise

_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
_STEM, _LAST, _HIDDEN = 16, 960, 1280


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the paper's table: kernel, expanded and output channels, gate, hard swish, stride."""

    kernel: int
    expanded: int
    channels: int
    gated: bool
    hard_swish: bool
    stride: int


_ROWS = (
    _Row(3, 16, 16, False, False, 1),
    _Row(3, 64, 24, False, False, 2),
    _Row(3, 72, 24, False, False, 1),
    _Row(5, 72, 40, True, False, 2),
    _Row(5, 120, 40, True, False, 1),
    _Row(5, 120, 40, True, False, 1),
    _Row(3, 240, 80, False, True, 2),
    _Row(3, 200, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 184, 80, False, True, 1),
    _Row(3, 480, 112, True, True, 1),
    _Row(3, 672, 112, True, True, 1),
    _Row(5, 672, 160, True, True, 2),
    _Row(5, 960, 160, True, True, 1),
    _Row(5, 960, 160, True, True, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, gate, project; a shortcut if it fits."""

    def __init__(self, in_channels: int, row: _Row) -> None:
        """Take the channels of the input and the row of the table."""
        super().__init__()
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(ConvNormActivation(in_channels, row.expanded, 1, norm=_norm, activation=activation))
        layers.append(
            ConvNormActivation(
                row.expanded,
                row.expanded,
                row.kernel,
                row.stride,
                groups=row.expanded,
                norm=_norm,
                activation=activation,
            )
        )
        if row.gated:
            squeezed = divisible(row.expanded / 4)
            layers.append(SqueezeExcitation(row.expanded, squeezed, activation=nn.ReLU, gate=nn.Hardsigmoid))
        layers.append(ConvNormActivation(row.expanded, row.channels, 1, norm=_norm, activation=None))
        self.block = nn.Sequential(*layers)
        self.adds = row.stride == 1 and in_channels == row.channels

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        output: Tensor = self.block(x_nchw)
        return x_nchw + output if self.adds else output


class MobileNetV3Large(nn.Module):
    """Seventeen features, of which 0 and 16 are plain convolutions, and a classifier of two layers."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Take the classes and the image's channels."""
        super().__init__()
        layers: list[nn.Module] = [
            ConvNormActivation(in_channels, _STEM, 3, 2, norm=_norm, activation=nn.Hardswish)
        ]
        channels = _STEM
        for row in _ROWS:
            layers.append(InvertedResidual(channels, row))
            channels = row.channels
        layers.append(ConvNormActivation(channels, _LAST, 1, norm=_norm, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(_LAST, _HIDDEN), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(_HIDDEN, num_classes)
        )
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x_nchw)).flatten(1))
        return logits
