"""ResNet-18/34/50/101/152 for ImageNet (He et al. 2015, table 1), with torchvision's parameter names.

Stride 2 stands at a bottleneck's 3×3 convolution, as in the weights in circulation.
"""

from __future__ import annotations

from torch import Tensor, nn

from isthmus.models.backbones.blocks import initialise

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Take input channels, the block's channels and the stride of the first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x_nchw if self.downsample is None else self.downsample(x_nchw)
        hidden = self.relu(self.bn1(self.conv1(x_nchw)))
        output: Tensor = self.relu(self.bn2(self.conv2(hidden)) + shortcut)
        return output


class Bottleneck(nn.Module):
    """A 3×3 convolution between two 1×1 ones, around a shortcut; the output has four times the channels."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Take input channels, those of the 3×3 convolution and its stride."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = _projection(in_channels, channels * self.expansion, stride)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        shortcut = x_nchw if self.downsample is None else self.downsample(x_nchw)
        hidden = self.relu(self.bn1(self.conv1(x_nchw)))
        hidden = self.relu(self.bn2(self.conv2(hidden)))
        output: Tensor = self.relu(self.bn3(self.conv3(hidden)) + shortcut)
        return output


class ResNet(nn.Module):
    """A residual network whose first stage works at a quarter of the image's size."""

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3) -> None:
        """Build the network of `depth` 18, 34, 50, 101 or 152."""
        super().__init__()
        block = BasicBlock if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        first, second, third, fourth = _STAGES[depth]
        self.layer1 = _stage(block, 64, 64, first, 1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, second, 2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, third, 2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, fourth, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        x_nchw = self.maxpool(self.relu(self.bn1(self.conv1(x_nchw))))
        x_nchw = self.layer4(self.layer3(self.layer2(self.layer1(x_nchw))))
        logits: Tensor = self.fc(self.avgpool(x_nchw).flatten(1))
        return logits


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    rest = (block(channels * block.expansion, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
