"""DenseNet-121/169/201 (Huang et al. 2017, table 1), with torchvision's parameter names.

Within a dense block every layer reads all earlier ones, so nothing there is a single tensor until a later
layer joins them.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from isthmus.models.backbones.blocks import initialise

_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
_GROWTH, _BOTTLENECK, _STEM = 32, 4, 64


class DenseLayer(nn.Module):
    """Two convolutions, 1×1 and 3×3, each after norm and ReLU, on all earlier features."""

    def __init__(self, in_channels: int) -> None:
        """Take the number of channels of all earlier features together."""
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, _BOTTLENECK * _GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK * _GROWTH)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(_BOTTLENECK * _GROWTH, _GROWTH, 3, 1, 1, bias=False)

    def forward(self, earlier_nchw: list[Tensor]) -> Tensor:
        """Return the 32 new channels."""
        hidden = self.conv1(self.relu1(self.norm1(torch.cat(earlier_nchw, 1))))
        added: Tensor = self.conv2(self.relu2(self.norm2(hidden)))
        return added


class DenseBlock(nn.ModuleDict):
    """Layers `denselayer1`, `denselayer2`, … of which each adds 32 channels."""

    def __init__(self, in_channels: int, layers: int) -> None:
        """Take the channels of the input and the number of layers."""
        super().__init__({f"denselayer{i + 1}": DenseLayer(in_channels + i * _GROWTH) for i in range(layers)})

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the input and everything added to it."""
        features = [x_nchw]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    """Halve the channels and the resolution between two dense blocks."""

    def __init__(self, in_channels: int) -> None:
        """Take the channels of the input."""
        super().__init__(
            OrderedDict(
                norm=nn.BatchNorm2d(in_channels),
                relu=nn.ReLU(),
                conv=nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
                pool=nn.AvgPool2d(2, 2),
            )
        )


class DenseNet(nn.Module):
    """Four dense blocks after the stem that ResNet has too."""

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Build the network of `depth` 121, 169 or 201."""
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(in_channels, _STEM, 7, 2, 3, bias=False),
                norm0=nn.BatchNorm2d(_STEM),
                relu0=nn.ReLU(),
                pool0=nn.MaxPool2d(3, 2, 1),
            )
        )
        channels, blocks = _STEM, _BLOCKS[depth]
        for number, layers in enumerate(blocks, start=1):
            self.features.add_module(f"denseblock{number}", DenseBlock(channels, layers))
            channels += layers * _GROWTH
            if number < len(blocks):
                self.features.add_module(f"transition{number}", Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        features = self.relu(self.features(x_nchw))
        logits: Tensor = self.classifier(self.avgpool(features).flatten(1))
        return logits
