"""The slimmable encoder: hidden channels follow the width, the latent does not.

Its last convolution always emits all latent channels and has a private gain and bias per width, which fold
away at export.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.models.families.layers import SlimConv2d
from isthmus.models.families.slim_blocks import SlimInverted, SlimInvertedStage, SlimResidual, SlimStage
from isthmus.models.families.slim_structure import SlimStructure


class SlimEncoder(nn.Module):
    """Normalised image → real latent, at any of the widths."""

    def __init__(self, config: SplitConfig, structure: SlimStructure) -> None:
        """Build the stages of `config.encoder_stages`."""
        super().__init__()
        widths = config.widths
        previous: tuple[int, ...] = (config.input_channels,) * len(widths)
        self.stages = nn.ModuleList()
        strides = structure.stage_strides(config.encoder_stages)
        for (full, blocks), stride in zip(config.encoder_stages, strides, strict=True):
            channels = tuple(scaled_channels(full, width) for width in widths)
            self.stages.append(_stage(previous, channels, blocks, stride, structure, first=not self.stages))
            previous = channels
        self.hidden = previous
        self.project = SlimConv2d(previous, (config.channels,) * len(widths), 1)
        self.gain = nn.Parameter(torch.ones(len(widths), config.channels))
        self.bias = nn.Parameter(torch.zeros(len(widths), config.channels))
        with torch.no_grad():  # unit variance of the latent for unit variance of the features
            self.project.weight.mul_(0.5**0.5)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w] of `width_index`."""
        return self.projected(self.features(x_nchw, width_index), width_index)

    def features(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return what the last stage makes of a normalised image."""
        for stage in self.stages:
            x_nchw = stage(x_nchw, width_index)
        return x_nchw

    def projected(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent of the last stage's features."""
        # Rounding follows: the projection is done in full precision even under autocast.
        with torch.autocast(x_nchw.device.type, enabled=False):
            y_nchw: Tensor = self.project(x_nchw.float(), width_index)
            return y_nchw * self.gain[width_index, :, None, None] + self.bias[width_index, :, None, None]

    def materialise_stages(self, width_index: int) -> list[nn.Module]:
        """Return the stages at one width as plain layers.

        Raises:
            GateError: If that width was never calibrated.
        """
        layers: list[nn.Module] = []
        for stage in self.stages:
            layers += cast("SlimStage | SlimInvertedStage", stage).materialise(width_index)
        return layers

    def materialise_projection(self, width_index: int) -> nn.Conv2d:
        """Return the last convolution at one width, gain and bias folded in."""
        return self.project.materialise(width_index, self.gain[width_index], self.bias[width_index])

    def materialise(self, width_index: int) -> nn.Module:
        """Return the encoder at `width_index` as plain convolutions, BatchNorm and gains folded in.

        Raises:
            GateError: If that width was never calibrated.
        """
        return nn.Sequential(*self.materialise_stages(width_index), self.materialise_projection(width_index))


def _stage(
    in_channels: Sequence[int],
    channels: Sequence[int],
    blocks: int,
    stride: int,
    structure: SlimStructure,
    *,
    first: bool,
) -> SlimStage | SlimInvertedStage:
    kernel, expansion = structure.kernel, structure.expansion
    if structure.block == "residual":
        residuals = [SlimResidual(channels, channels) for _ in range(blocks)]
        return SlimStage(in_channels, channels, residuals, structure.stem_kernel if first else 3, stride)
    wide, hidden = (tuple(expansion * count for count in counts) for counts in (channels, in_channels))
    inverted = [SlimInverted(channels, wide, channels, kernel) for _ in range(blocks)]
    if first:  # three colours are too few to be convolved one by one
        return SlimStage(in_channels, channels, inverted, structure.stem_kernel, stride)
    return SlimInvertedStage([SlimInverted(in_channels, hidden, channels, kernel, stride), *inverted])
