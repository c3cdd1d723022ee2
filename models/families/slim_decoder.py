"""The decoder: a real latent → the features at the cut.

It knows neither width nor channel count: absent channels reach it as zeros. It has no BatchNorm, whose
statistics would depend on the clients.
"""

from __future__ import annotations

from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.families.plain import residual
from isthmus.runtime.errors import PlanError


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
        layers += [residual(channels) for _ in range(config.decoder_blocks)]
        for _ in range(abs(doublings)):
            if doublings > 0:
                layers += [nn.Conv2d(channels, 4 * (channels // 2), 1), nn.PixelShuffle(2)]
                channels //= 2
            else:
                layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1)]
            layers += [residual(channels) for _ in range(config.decoder_blocks)]
        layers += [nn.ReLU(), nn.Conv2d(channels, config.cut_shape_chw[0], 3, padding=1)]
        if config.non_negative:
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the features [n, *cut_shape_chw]."""
        features: Tensor = self.layers(z_nchw)
        return features


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
