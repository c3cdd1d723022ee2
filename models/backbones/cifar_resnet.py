"""ResNet-20/56/110 for 32×32 images (He et al. 2015, §4.2): a stem of 16 channels, three stages of 16/32/64.

State-dict keys are `conv1`, `bn1`, `layerS.B.{conv1,bn1,conv2,bn2}`, `linear`: the names of the checkpoints
in circulation.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Option A: take every second pixel and pad the missing channels with zeros; no parameters."""

    def __init__(self, missing: int) -> None:
        """Take the number of channels to add, half of them on each side."""
        super().__init__()
        self.missing = missing

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return [n, c + missing, h/2, w/2]."""
        half = self.missing // 2
        return F.pad(x_nchw[:, :, ::2, ::2], (0, 0, 0, 0, half, self.missing - half))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm around a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Take input and output channels and the stride of the first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or in_channels != channels
        self.shortcut: nn.Module = PadShortcut(channels - in_channels) if changes else nn.Identity()

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        hidden = F.relu(self.bn1(self.conv1(x_nchw)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x_nchw))


class CifarResNet(nn.Module):
    """A ResNet of depth 6n + 2."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        """Build the network of `depth` ∈ {20, 32, 44, 56, 110, …}."""
        super().__init__()
        assert (depth - 2) % 6 == 0, "depth must be 6n + 2"
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        x_nchw = F.relu(self.bn1(self.conv1(x_nchw)))
        x_nchw = self.layer3(self.layer2(self.layer1(x_nchw)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x_nchw, 1).flatten(1))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
