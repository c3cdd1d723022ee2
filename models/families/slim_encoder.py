"""The slimmable encoder: hidden channels follow the width, the latent does not.

Its last convolution always emits all latent channels and has a private gain and bias per width, which fold
away at export.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d
from isthmus.models.families.plain import PlainResidual


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

    def materialise(self, width_index: int) -> nn.Module:
        """Return the block at one width as plain convolutions."""
        return PlainResidual(
            self.conv1.materialise(width_index, *self.norm1.folded(width_index)),
            self.conv2.materialise(width_index, *self.norm2.folded(width_index)),
            rectified=True,
        )


class SlimStage(nn.Module):
    """A stride-2 convolution and some residual blocks."""

    def __init__(
        self, in_channels: Sequence[int], channels: Sequence[int], blocks: int, kernel_size: int
    ) -> None:
        """Take channels per width index, the count of blocks and the stride-2 kernel."""
        super().__init__()
        self.down, self.norm = SlimConv2d(in_channels, channels, kernel_size, 2), SlimBatchNorm2d(channels)
        self.blocks = nn.ModuleList(SlimResidual(channels) for _ in range(blocks))

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return [n, channels, h/2, w/2]."""
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
            assert isinstance(block, SlimResidual)
            layers.append(block.materialise(width_index))
        return layers


class SlimEncoder(nn.Module):
    """Normalised image → real latent, at any of the widths."""

    def __init__(self, config: SplitConfig) -> None:
        """Build the stages of `config.encoder_stages`."""
        super().__init__()
        widths = config.widths
        previous: tuple[int, ...] = (config.input_channels,) * len(widths)
        self.stages = nn.ModuleList()
        for index, (full, blocks) in enumerate(config.encoder_stages):
            channels = tuple(scaled_channels(full, width) for width in widths)
            # The first kernel sees colour at full resolution, so it is the larger one.
            self.stages.append(SlimStage(previous, channels, blocks, 5 if index == 0 else 3))
            previous = channels
        self.project = SlimConv2d(previous, (config.channels,) * len(widths), 1)
        self.gain = nn.Parameter(torch.ones(len(widths), config.channels))
        self.bias = nn.Parameter(torch.zeros(len(widths), config.channels))
        with torch.no_grad():  # unit variance of the latent for unit variance of the features
            self.project.weight.mul_(0.5**0.5)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w] of `width_index`."""
        for stage in self.stages:
            x_nchw = stage(x_nchw, width_index)
        # Rounding follows: the projection is done in full precision even under autocast.
        with torch.autocast(x_nchw.device.type, enabled=False):
            y_nchw: Tensor = self.project(x_nchw.float(), width_index)
            return y_nchw * self.gain[width_index, :, None, None] + self.bias[width_index, :, None, None]

    def materialise(self, width_index: int) -> nn.Sequential:
        """Return the encoder at `width_index` as plain convolutions, BatchNorm and gains folded in.

        Raises:
            GateError: If that width was never calibrated.
        """
        layers: list[nn.Module] = []
        for stage in self.stages:
            assert isinstance(stage, SlimStage)
            layers += stage.materialise(width_index)
        layers.append(self.project.materialise(width_index, self.gain[width_index], self.bias[width_index]))
        return nn.Sequential(*layers)
