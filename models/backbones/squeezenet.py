"""SqueezeNet 1.0 (Iandola et al. 2016, table 1), with torchvision's parameter names.

It has no norm, and its classifier is a convolution whose map is averaged after its ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """A 1×1 convolution that squeezes, then a 1×1 and a 3×3 one side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        """Take the channels of the input, between, and of either half of the output."""
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return both halves joined."""
        squeezed = self.squeeze_activation(self.squeeze(x_nchw))
        narrow = self.expand1x1_activation(self.expand1x1(squeezed))
        wide = self.expand3x3_activation(self.expand3x3(squeezed))
        return torch.cat([narrow, wide], 1)


class SqueezeNet(nn.Module):
    """Eight fire modules between two convolutions; max pools take a last, partial window too."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Take the classes and the image's channels."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 7, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(96, 16, 64),
            Fire(128, 16, 64),
            Fire(128, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 32, 128),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return class scores [n, classes], none negative, of normalised images."""
        scores: Tensor = self.classifier(self.features(x_nchw)).flatten(1)
        return scores
