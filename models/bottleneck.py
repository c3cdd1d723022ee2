"""The learned bottleneck: a slimmable encoder for the device, a decoder for the server, an early exit.

The encoder's hidden channels follow the width; its last convolution always emits all latent channels and has
a private gain and bias per width, which fold away at export. The decoder knows neither width nor channel
count: absent channels reach it as zeros. It has no BatchNorm, whose statistics would depend on the clients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.models.slim import SlimBatchNorm2d, SlimConv2d
from isthmus.runtime.errors import PlanError


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


class PlainResidual(nn.Module):
    """Two 3×3 convolutions around a shortcut, without normalisation; also a materialised `SlimResidual`."""

    def __init__(self, conv1: nn.Conv2d, conv2: nn.Conv2d, *, rectified: bool) -> None:
        """Take the convolutions; `rectified` adds a ReLU after the sum."""
        super().__init__()
        self.conv1, self.conv2, self.rectified = conv1, conv2, rectified

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's output, same shape."""
        total: Tensor = x_nchw + self.conv2(self.conv1(x_nchw).relu())
        return total.relu() if self.rectified else total


def _residual(channels: int) -> PlainResidual:
    first, second = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    # Without normalisation depth must not add variance at the start (Zhang et al., Fixup, 2019).
    for tensor in (first.bias, second.weight, second.bias):
        assert tensor is not None
        nn.init.zeros_(tensor)
    return PlainResidual(first, second, rectified=False)


class Decoder(nn.Module):
    """Real latent → features at the cut."""

    def __init__(self, config: SplitConfig) -> None:
        """Build residual blocks per resolution and pixel-shuffle (or stride 2) steps to the cut's plane.

        Raises:
            PlanError: If the cut's plane is not the latent's times or over a power of two.
        """
        super().__init__()
        channels, doublings = config.decoder_channels, plane_doublings(config)
        layers: list[nn.Module] = [nn.Conv2d(config.channels, channels, 3, padding=1)]
        layers += [_residual(channels) for _ in range(config.decoder_blocks)]
        for _ in range(abs(doublings)):
            if doublings > 0:
                layers += [nn.Conv2d(channels, 4 * (channels // 2), 1), nn.PixelShuffle(2)]
                channels //= 2
            else:
                layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1)]
            layers += [_residual(channels) for _ in range(config.decoder_blocks)]
        layers += [nn.ReLU(), nn.Conv2d(channels, config.cut_shape_chw[0], 3, padding=1)]
        if config.non_negative:
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the features [n, *cut_shape_chw]."""
        features: Tensor = self.layers(z_nchw)
        return features


class ExitHead(nn.Module):
    """Real latent → logits, on the device."""

    def __init__(self, config: SplitConfig) -> None:
        """Build two convolutions, a pooled mean and a linear layer."""
        super().__init__()
        hidden = config.exit_channels
        self.conv1 = nn.Conv2d(config.channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.linear = nn.Linear(hidden, len(config.labels))

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        hidden = self.conv2(self.conv1(z_nchw).relu()).relu()
        hidden = (self.conv3(hidden) + hidden).relu()
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits


def plane_doublings(config: SplitConfig) -> int:
    """Return how often the latent's plane is doubled (negative: halved) to reach the cut's.

    Raises:
        PlanError: If no power of two leads there, for both sides alike.
    """
    _, height, width = config.cut_shape_chw
    for doublings in range(-6, 7):
        factor = 2.0**doublings
        if height == config.latent_height * factor and width == config.latent_width * factor:
            return doublings
    raise PlanError(
        f"cut {config.cut!r} is {height}x{width}: no power of two leads there from a latent of "
        f"{config.latent_height}x{config.latent_width}; choose another cut"
    )


def materialise_encoder(encoder: SlimEncoder, width_index: int) -> nn.Sequential:
    """Return `encoder` at `width_index` as plain convolutions, BatchNorm and gains folded in.

    Raises:
        GateError: If that width was never calibrated.
    """
    layers: list[nn.Module] = []
    for stage in encoder.stages:
        assert isinstance(stage, SlimStage)
        layers += [stage.down.materialise(width_index, *stage.norm.folded(width_index)), nn.ReLU()]
        for block in stage.blocks:
            assert isinstance(block, SlimResidual)
            layers.append(
                PlainResidual(
                    block.conv1.materialise(width_index, *block.norm1.folded(width_index)),
                    block.conv2.materialise(width_index, *block.norm2.folded(width_index)),
                    rectified=True,
                )
            )
    layers.append(
        encoder.project.materialise(width_index, encoder.gain[width_index], encoder.bias[width_index])
    )
    return nn.Sequential(*layers)
