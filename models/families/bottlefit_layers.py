"""The layers of BottleFit's bottleneck (Matsubara et al., arXiv 2201.02693).

Conv7 – BN – ReLU – MaxPool3 – BN – ReLU – Conv2 on the device; BN – ReLU and four Conv2 on the server, with
an average pooling where the cut's plane asks for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d
from isthmus.models.families.plain import Resize, affine
from isthmus.runtime.errors import PlanError

_PADDINGS = (1, 1, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BottlefitStructure:
    """The settings of a BottleFit bottleneck; the defaults are the published ones.

    Attributes:
        strides: Of the first convolution, the pooling and the convolution to the latent.
        padding: Of the convolution to the latent.
        hidden: Channels before the latent.
        decoder_hidden: Channels of the decoder.
    """

    strides: tuple[int, ...] = (2, 2, 2)
    padding: int = 1
    hidden: int = 64
    decoder_hidden: int = 512

    def __post_init__(self) -> None:
        if len(self.strides) != 3 or any(stride not in (1, 2) for stride in self.strides):
            raise PlanError(f"strides {self.strides}: give 1 or 2 for convolution, pooling and convolution")
        if self.padding not in (0, 1) or min(self.hidden, self.decoder_hidden) < 1:
            raise PlanError(
                f"padding {self.padding}, hidden {self.hidden}, decoder_hidden {self.decoder_hidden}: "
                "give a padding of 0 or 1 and channels"
            )

    def plane(self, height: int, width: int) -> tuple[int, int]:
        """Return the latent's height and width for images of this size."""
        first, pool, last = self.strides

        def side(size: int) -> int:
            for stride in (first, pool):  # kernels 7 and 3, padded to keep the plane
                size = (size - 1) // stride + 1
            return (size + 2 * self.padding - 2) // last + 1

        return side(height), side(width)


class BottlefitEncoder(nn.Module):
    """Normalised image → real latent."""

    def __init__(self, config: SplitConfig, structure: BottlefitStructure) -> None:
        """Build the published layers."""
        super().__init__()
        first, pool, last = structure.strides
        hidden = (structure.hidden,)
        self.conv1 = SlimConv2d((config.input_channels,), hidden, 7, first)
        self.norm1 = SlimBatchNorm2d(hidden)
        self.pool = nn.MaxPool2d(3, pool, 1)
        self.norm2 = SlimBatchNorm2d(hidden)
        self.conv2 = SlimConv2d(hidden, (config.channels,), 2, last, structure.padding)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w]; there is one width."""
        x_nchw = self.norm1(self.conv1(x_nchw, width_index), width_index).relu()
        x_nchw = self.norm2(self.pool(x_nchw), width_index).relu()
        with torch.autocast(x_nchw.device.type, enabled=False):
            y_nchw: Tensor = self.conv2(x_nchw.float(), width_index)
        return y_nchw

    def materialise(self) -> nn.Module:
        """Return the encoder as plain layers.

        Raises:
            GateError: If it was never calibrated.
        """
        channels = self.conv2.out_channels[0]
        return nn.Sequential(
            self.conv1.materialise(0, *self.norm1.folded(0)),
            nn.ReLU(),
            nn.MaxPool2d(self.pool.kernel_size, self.pool.stride, self.pool.padding),
            affine(*self.norm2.folded(0)),
            nn.ReLU(),
            self.conv2.materialise(0, torch.ones(channels), torch.zeros(channels)),
        )


class BottlefitDecoder(nn.Module):
    """Real latent → features at the cut."""

    def __init__(self, config: SplitConfig, structure: BottlefitStructure) -> None:
        """Build the published layers, with a pooling or an interpolation to the cut's plane."""
        super().__init__()
        out_channels, *goal = config.cut_shape_chw
        latent = (config.latent_height, config.latent_width)
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        previous = (config.channels,)
        for index, padding in enumerate(_PADDINGS):
            last = index == len(_PADDINGS) - 1
            channels = (out_channels if last else structure.decoder_hidden,)
            self.norms.append(SlimBatchNorm2d(previous))
            self.convs.append(SlimConv2d(previous, channels, 2, padding=padding))
            previous = channels
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # The first two convolutions add one to a side, the last two take it away.
        self.resize, self.pool = _to_plane(latent, (goal[0], goal[1]))

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the features [n, *cut_shape_chw]."""
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            z_nchw = norm(z_nchw, 0).relu()
            if index == len(self.convs) - 1:
                z_nchw = self.resize(z_nchw)
            z_nchw = conv(z_nchw, 0)
        features: Tensor = self.pool(z_nchw + self.bias[:, None, None])
        return features

    def materialise(self) -> nn.Module:
        """Return the decoder as plain layers.

        Raises:
            GateError: If it was never calibrated.
        """
        norms = [norm for norm in self.norms if isinstance(norm, SlimBatchNorm2d)]
        convs = [conv for conv in self.convs if isinstance(conv, SlimConv2d)]
        # The first norm stands before a ReLU and behind the latent: there is nothing to fold it into.
        layers: list[nn.Module] = [affine(*norms[0].folded(0)), nn.ReLU()]
        for conv, norm in zip(convs[:-1], norms[1:], strict=True):
            layers += [conv.materialise(0, *norm.folded(0)), nn.ReLU()]
        last = convs[-1].materialise(0, torch.ones_like(self.bias), self.bias)
        return nn.Sequential(*layers, self.resize, last, self.pool)


def pooling_stride(latent: tuple[int, int], goal: tuple[int, int]) -> int | None:
    """Return the stride of the published pooling that leads from `latent` to `goal`, or None."""
    for stride in (1, 2):
        if goal == tuple((side - 2) // stride + 1 for side in latent):
            return stride
    return None


def _to_plane(latent: tuple[int, int], goal: tuple[int, int]) -> tuple[nn.Module, nn.Module]:
    """Return what comes before and what after the last convolution, which takes one from a side."""
    if goal == latent:
        return nn.Identity(), nn.Identity()
    if (stride := pooling_stride(latent, goal)) is not None:
        return nn.Identity(), nn.AvgPool2d(2, stride)
    # Interpolated before the last convolution, which then gives the plane exactly.
    return Resize(goal[0] + 1, goal[1] + 1), nn.Identity()
