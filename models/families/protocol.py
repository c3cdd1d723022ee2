"""What every kind of bottleneck offers to the split network whose first layers it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.quantise import Quantiser
from isthmus.models.size import BottleneckSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a family makes of a size and an image: the fields of `SplitConfig` that are its to decide."""

    channels: int
    channel_counts: tuple[int, ...]
    widths: tuple[float, ...]
    latent_height: int
    latent_width: int
    encoder_stages: tuple[tuple[int, int], ...] = ()
    decoder_channels: int = 0
    decoder_blocks: int = 0
    structure: Mapping[str, Any] = field(default_factory=dict)


class BottleneckFamily(Protocol):
    """A kind of bottleneck; stateless.

    An encoder is called with (normalised image [n, c, h, w], width index) and returns a real latent; a
    decoder takes a real latent, absent channels at zero, and returns the features at the cut.
    """

    name: str

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether a bottleneck of `size` leads from images of `shape_hwc` to the tensor at `site`."""
        ...

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        ...

    def encoder(self, config: SplitConfig) -> nn.Module:
        """Return the device's side, untrained.

        Raises:
            PlanError: If the config's fields contradict each other.
        """
        ...

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return what stands between the real latent and its bytes."""
        ...

    def decoder(self, config: SplitConfig) -> nn.Module:
        """Return the server's side, untrained.

        Raises:
            PlanError: If the cut's shape is out of its reach.
        """
        ...

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return a copy of `encoder` at one width as plain convolutions, BatchNorm folded in.

        Raises:
            GateError: If that width was never calibrated.
        """
        ...

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return a copy of `decoder` as plain layers.

        Raises:
            GateError: If it was never calibrated.
        """
        ...
