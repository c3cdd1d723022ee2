"""What a slimmable encoder is built of: residual and inverted residual blocks, and stages of them.

Every module takes (features, width index) and leaves as plain convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d, SlimDepthwise2d
from isthmus.models.families.plain import PlainResidual, Shortcut, padded, selecting

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class SlimConvNorm(nn.Module):
    """A slimmable convolution, its norm and, if any, an activation."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        *,
        activation: str = "linear",
        private: bool = False,
    ) -> None:
        """Take what the convolution takes; `activation` is a key of `ACTIVATIONS`, any other word is none."""
        super().__init__()
        self.conv = SlimConv2d(in_channels, channels, kernel, stride, padding)
        self.norm = SlimBatchNorm2d(channels, private=private)
        self.activation = activation

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/stride, w/stride]."""
        return activated(self.norm(self.conv(x_nchw, width_index), width_index), self.activation)

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the layers at one width as plain ones."""
        plain: list[nn.Module] = [self.conv.materialise(width_index, *self.norm.folded(width_index))]
        if self.activation in ACTIVATIONS:
            plain.append(ACTIVATIONS[self.activation]())
        return plain


class SlimResidual(nn.Module):
    """Two slimmable 3×3 convolutions around a shortcut.

    Where stride or channels change, the shortcut is a 1×1 convolution (`projected`), or it takes every so
    many pixels and the new channels are zeros, behind the others so that a narrower width keeps the same.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: Sequence[int],
        stride: int = 1,
        *,
        projected: bool = False,
        private: bool = False,
    ) -> None:
        """Take the channels per width index and the stride of the first convolution."""
        super().__init__()
        self.stride, self.channels = stride, tuple(channels)
        self.conv1 = SlimConv2d(in_channels, channels, 3, stride)
        self.norm1 = SlimBatchNorm2d(channels, private=private)
        self.conv2, self.norm2 = SlimConv2d(channels, channels, 3), SlimBatchNorm2d(channels, private=private)
        # A block starts as the identity (BigNAS): every width begins as the same shallow network.
        nn.init.zeros_(self.norm2.weight)
        self.missing = tuple(out - have for have, out in zip(in_channels, channels, strict=True))
        self.shortcut = SlimConvNorm(in_channels, channels, 1, stride, private=private) if projected else None

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the block's output."""
        hidden = self.norm1(self.conv1(x_nchw, width_index), width_index).relu()
        total: Tensor = self.norm2(self.conv2(hidden, width_index), width_index)
        if self.shortcut is not None:
            kept: Tensor = self.shortcut(x_nchw, width_index)
        else:
            kept = padded(x_nchw, self.stride, self.missing[width_index])
        return (kept + total).relu()

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the block at one width as plain convolutions."""
        shortcut = None if self.shortcut is None else self.shortcut.materialise(width_index)[0]
        return [
            PlainResidual(
                self.conv1.materialise(width_index, *self.norm1.folded(width_index)),
                self.conv2.materialise(width_index, *self.norm2.folded(width_index)),
                rectified=True,
                shortcut=shortcut or self._plain_shortcut(width_index),
            )
        ]

    def _plain_shortcut(self, width_index: int) -> nn.Module | None:
        missing = self.missing[width_index]
        if self.stride == 1 and not missing:
            return None
        return selecting(self.channels[width_index] - missing, missing, self.stride)


class SlimInverted(nn.Module):
    """Expansion, depthwise convolution and projection, as in MobileNetV2 (Sandler et al., 2018).

    With stride 1 and as many channels out as in there is a shortcut around it.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        hidden: Sequence[int],
        channels: Sequence[int],
        kernel: int,
        stride: int = 1,
        *,
        activation: str = "relu",
        private: bool = False,
    ) -> None:
        """Take channels per width index: in, inside and out; the depthwise kernel and its stride."""
        super().__init__()
        self.shortcut, self.activation = stride == 1 and tuple(in_channels) == tuple(channels), activation
        self.conv1, self.norm1 = SlimConv2d(in_channels, hidden, 1), SlimBatchNorm2d(hidden, private=private)
        self.conv2 = SlimDepthwise2d(hidden, kernel, stride)
        self.norm2 = SlimBatchNorm2d(hidden, private=private)
        self.conv3, self.norm3 = SlimConv2d(hidden, channels, 1), SlimBatchNorm2d(channels, private=private)
        if self.shortcut:
            nn.init.zeros_(self.norm3.weight)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/stride, w/stride]."""
        hidden = activated(self.norm1(self.conv1(x_nchw, width_index), width_index), self.activation)
        hidden = activated(self.norm2(self.conv2(hidden, width_index), width_index), self.activation)
        output: Tensor = self.norm3(self.conv3(hidden, width_index), width_index)
        return x_nchw + output if self.shortcut else output

    def materialise(self, width_index: int) -> list[nn.Module]:
        """Return the block at one width as plain convolutions."""
        layers: list[nn.Module] = []
        activation = ACTIVATIONS[self.activation]
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            layers += [conv.materialise(width_index, *norm.folded(width_index)), activation()]
        del layers[-1]
        return [Shortcut(*layers)] if self.shortcut else layers


def activated(x_nchw: Tensor, activation: str) -> Tensor:
    """Return what the `activation` of this name makes of features; of an unknown one, themselves."""
    if activation == "relu":
        return x_nchw.relu()
    # One kernel backwards, where a clamp has four.
    return F.hardtanh(x_nchw, 0.0, 6.0) if activation == "relu6" else x_nchw


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
