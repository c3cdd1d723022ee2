"""ProxylessNAS networks (Cai et al. 2019): inverted residuals whose kernels and expansions were searched.

Parameter names are those of the published weights. The architecture is a list of blocks, as in the published
JSON description.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from isthmus.models.backbones.blocks import initialise


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual: kernel, expansion, output channels, stride."""

    kernel: int
    expansion: int
    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """Channels of the stem, the blocks (None: the search removed it), channels before the classifier."""

    stem: int
    blocks: tuple[Block | None, ...]
    last: int


# The network of width 0.3 for images of 176×176.
W03 = Architecture(
    stem=16,
    blocks=(
        Block(3, 1, 8, 1),
        Block(5, 3, 16, 2),
        Block(3, 3, 16, 1),
        None,
        None,
        Block(7, 3, 16, 2),
        Block(3, 3, 16, 1),
        Block(5, 3, 16, 1),
        Block(5, 3, 16, 1),
        Block(7, 6, 24, 2),
        Block(5, 3, 24, 1),
        Block(5, 3, 24, 1),
        Block(5, 3, 24, 1),
        Block(5, 6, 32, 1),
        Block(5, 3, 32, 1),
        Block(5, 3, 32, 1),
        Block(5, 3, 32, 1),
        Block(7, 6, 64, 2),
        Block(7, 6, 64, 1),
        Block(7, 3, 64, 1),
        Block(7, 3, 64, 1),
        Block(7, 6, 96, 1),
    ),
    last=384,
)


class InvertedConv(nn.Sequential):
    """Expand by 1×1 unless there is nothing to expand, filter each channel, project without activation."""

    def __init__(self, in_channels: int, block: Block) -> None:
        """Take the channels of the input and the block's shape."""
        hidden = in_channels * block.expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if block.expansion != 1:
            layers["inverted_bottleneck"] = _convolution(in_channels, hidden, 1, 1)
        layers["depth_conv"] = _convolution(hidden, hidden, block.kernel, block.stride, groups=hidden)
        layers["point_linear"] = _convolution(hidden, block.channels, 1, 1, activation=False)
        super().__init__(layers)


class InvertedResidual(nn.Module):
    """The searched convolution and a shortcut if it fits."""

    def __init__(self, in_channels: int, block: Block) -> None:
        """Take the channels of the input and the block's shape."""
        super().__init__()
        self.mobile_inverted_conv = InvertedConv(in_channels, block)
        self.adds = block.stride == 1 and in_channels == block.channels

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output."""
        output: Tensor = self.mobile_inverted_conv(x_nchw)
        return x_nchw + output if self.adds else output


class ProxylessNas(nn.Module):
    """A stem, the blocks, a 1×1 convolution and a classifier."""

    def __init__(
        self, architecture: Architecture = W03, num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        """Take the architecture, the classes and the image's channels."""
        super().__init__()
        self.first_conv = _convolution(in_channels, architecture.stem, 3, 2)
        self.blocks = nn.Sequential()
        channels = architecture.stem
        for index, block in enumerate(architecture.blocks):
            if block is not None:
                # A removed block keeps its number, for the names of those behind it.
                self.blocks.add_module(str(index), InvertedResidual(channels, block))
                channels = block.channels
        self.feature_mix_layer = _convolution(channels, architecture.last, 1, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        classifier = nn.Linear(architecture.last, num_classes)
        self.classifier = nn.Sequential(OrderedDict(linear=classifier))
        initialise(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return logits [n, classes] of normalised images."""
        features = self.feature_mix_layer(self.blocks(self.first_conv(x_nchw)))
        logits: Tensor = self.classifier(self.avgpool(features).flatten(1))
        return logits


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, *, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[tuple[str, nn.Module]] = [("conv", convolution), ("bn", nn.BatchNorm2d(out_channels, 1e-3))]
    return nn.Sequential(OrderedDict([*layers, *([("act", nn.ReLU6())] if activation else [])]))
