"""The decoder: a real latent → the features at the cut.

It knows neither width nor channel count: absent channels reach it as zeros. It has no BatchNorm, whose
statistics would depend on the clients.
"""

from __future__ import annotations

from math import ceil, log2

from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.families.plain import Resize, inverted, residual
from isthmus.models.families.slim_structure import SlimStructure
from isthmus.runtime.errors import PlanError

# No more doublings or halvings than these, and at most half as large again by interpolation.
_MAX_STEPS, _MAX_STRETCH = 6, 1.5


class Decoder(nn.Module):
    """Real latent → features at the cut."""

    def __init__(self, config: SplitConfig, structure: SlimStructure) -> None:
        """Build blocks per resolution and pixel-shuffle (or stride 2) steps to the cut's plane.

        Raises:
            PlanError: If the cut's plane is out of reach.
        """
        super().__init__()
        channels, (doublings, exact) = config.decoder_channels, way_to_cut(config)

        def blocks() -> list[nn.Module]:
            if structure.decoder_block == "residual":
                return [residual(channels) for _ in range(config.decoder_blocks)]
            kernel, expansion = structure.kernel, structure.expansion
            return [inverted(channels, kernel, expansion) for _ in range(config.decoder_blocks)]

        layers: list[nn.Module] = [nn.Conv2d(config.channels, channels, 3, padding=1), *blocks()]
        for _ in range(abs(doublings)):
            if doublings > 0:
                layers += [nn.Conv2d(channels, 4 * (channels // 2), 1), nn.PixelShuffle(2)]
                channels //= 2
            else:
                layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1)]
            layers += blocks()
        if not exact:
            layers.append(Resize(*config.cut_shape_chw[1:]))
        layers += [nn.ReLU(), nn.Conv2d(channels, config.cut_shape_chw[0], 3, padding=1)]
        if config.non_negative:
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the features [n, *cut_shape_chw]."""
        features: Tensor = self.layers(z_nchw)
        return features


def way_between(latent_hw: tuple[int, int], cut_hw: tuple[int, int]) -> tuple[int, bool] | None:
    """Return how often the latent's plane is doubled (negative: halved) to reach the cut's, and if exactly.

    Where it is not, an interpolation does the rest. None if that would stretch a side too far.
    """
    ways = []
    for doublings in sorted(range(-_MAX_STEPS, _MAX_STEPS + 1), key=abs):
        plane = [ceil(size * 2.0**doublings) for size in latent_hw]
        stretch = max(abs(log2(wanted / size)) for wanted, size in zip(cut_hw, plane, strict=True))
        ways.append((stretch, doublings))
    stretch, doublings = min(ways, key=lambda way: way[0])
    return (doublings, stretch == 0.0) if stretch <= log2(_MAX_STRETCH) else None


def way_to_cut(config: SplitConfig) -> tuple[int, bool]:
    """Return `way_between` the latent and the cut of `config`.

    Raises:
        PlanError: If there is none.
    """
    _, height, width = config.cut_shape_chw
    way = way_between((config.latent_height, config.latent_width), (height, width))
    if way is None:
        raise PlanError(
            f"cut {config.cut!r} is {height}x{width}: out of reach from a latent of "
            f"{config.latent_height}x{config.latent_width}; choose another cut"
        )
    return way
