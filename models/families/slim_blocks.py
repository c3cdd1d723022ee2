"""What a slimmable encoder is built of: residual and inverted residual blocks, and stages of them.

Every module takes (features, width index) and leaves as plain convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d, SlimDepthwise2d
from isthmus.models.families.plain import PlainResidual, Shortcut


class SlimResidual(nn.Module):
    """Two slimmable 3×3 convolutions around a shortcut."""

    def __init__(self, channels: Sequence[int]) -> None:
        """Take the channels per width index."""
        super().__init__()
        self.conv1, self.norm1 = SlimConv2d(channels, channels, 3), SlimBatchNorm2d(channels)
        self.conv2, self.norm2 = SlimConv2d(channels, channels, 3), SlimBatchNorm2d(channels)
        # A block starts as the identity (BigNAS): every width begins as the same shallow network.
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the block's output, same shape."""
        hidden = self.norm1(self.conv1(x_nchw, width_index), width_index).relu()
        total: Tensor = x_nchw + self.norm2(self.conv2(hidden, width_index), width_index)
        return total.relu()

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the block at one width as plain convolutions."""
        return [
            PlainResidual(
                self.conv1.materialise(width_index, *self.norm1.folded(width_index)),
                self.conv2.materialise(width_index, *self.norm2.folded(width_index)),
                rectified=True,
            )
        ]


class SlimInverted(nn.Module):
    """Expansion, depthwise convolution and projection, as in MobileNetV2 (Sandler et al., 2018).

    With stride 1 and as many channels out as in there is a shortcut around it.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        kernel: int,
        expansion: int,
        stride: int = 1,
    ) -> None:
        """Take channels per width index, the depthwise kernel, and how much wider its channels are."""
        super().__init__()
        hidden = tuple(expansion * count for count in in_channels)
        self.shortcut = stride == 1 and tuple(in_channels) == tuple(channels)
        self.conv1, self.norm1 = SlimConv2d(in_channels, hidden, 1), SlimBatchNorm2d(hidden)
        self.conv2, self.norm2 = SlimDepthwise2d(hidden, kernel, stride), SlimBatchNorm2d(hidden)
        self.conv3, self.norm3 = SlimConv2d(hidden, channels, 1), SlimBatchNorm2d(channels)
        if self.shortcut:
            nn.init.zeros_(self.norm3.weight)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/stride, w/stride]."""
        hidden = self.norm1(self.conv1(x_nchw, width_index), width_index).relu()
        hidden = self.norm2(self.conv2(hidden, width_index), width_index).relu()
        output: Tensor = self.norm3(self.conv3(hidden, width_index), width_index)
        return x_nchw + output if self.shortcut else output

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the block at one width as plain convolutions."""
        layers: list[nn.Module] = []
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            layers += [conv.materialise(width_index, *norm.folded(width_index)), nn.ReLU()]
        del layers[-1]
        return [Shortcut(*layers)] if self.shortcut else layers


class SlimStage(nn.Module):
    """A strided convolution and some blocks."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        blocks: Sequence[SlimResidual | SlimInverted],
        kernel_size: int,
        stride: int,
    ) -> None:
        """Take channels per width index, the blocks after the strided convolution, its kernel and stride."""
        super().__init__()
        self.down = SlimConv2d(in_channels, channels, kernel_size, stride)
        self.norm = SlimBatchNorm2d(channels)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/stride, w/stride]."""
        x_nchw = self.norm(self.down(x_nchw, width_index), width_index).relu()
        for block in self.blocks:
            x_nchw = block(x_nchw, width_index)
        return x_nchw

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the stage's layers at one width as plain ones."""
        layers: list[nn.Module] = [
            self.down.materialise(width_index, *self.norm.folded(width_index)),
            nn.ReLU(),
        ]
        for block in self.blocks:
            layers += cast("SlimResidual | SlimInverted", block).materialise(width_index)
        return layers


class SlimInvertedStage(nn.Module):
    """Inverted residual blocks, the first of them strided."""

    def __init__(self, blocks: Sequence[SlimInverted]) -> None:
        """Take the blocks."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/stride, w/stride]."""
        for block in self.blocks:
            x_nchw = block(x_nchw, width_index)
        return x_nchw

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the stage's layers at one width as plain ones."""
        layers: list[nn.Module] = []
        for block in self.blocks:
            layers += cast("SlimInverted", block).materialise(width_index)
        return layers
