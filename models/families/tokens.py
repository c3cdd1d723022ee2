"""The bottleneck of vision transformers: tokens at a block boundary, through an ordered latent map.

A slimmable convolutional encoder imitates the tokens of a later block: the device runs no attention. Tokens
of the grid become channels of the latent's plane. Each class token is sent too, as a leading channel whose
values are its projection onto as many numbers as the plane has; hence every prefix of channels holds it.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.layers import SlimConv2d
from isthmus.models.families.protocol import Layout
from isthmus.models.families.slim import reaches, slim_layout
from isthmus.models.families.slim_decoder import Decoder
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.families.slim_structure import SlimStructure, slim_structure_of
from isthmus.models.families.structure import chosen, read_structure
from isthmus.models.quantise import LatentQuantiser, Quantiser
from isthmus.models.size import BottleneckSize
from isthmus.runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStructure(SlimStructure):
    """The settings of the slimmable encoder, and what the cut says.

    Attributes:
        class_tokens: Tokens before those of the grid; found at the cut, not chosen.
    """

    class_tokens: int = 0


class TokenEncoder(nn.Module):
    """Normalised image → real latent whose leading channels stand for the class tokens."""

    def __init__(self, config: SplitConfig, structure: TokenStructure) -> None:
        """Build a slimmable encoder for the grid, and a projection of its mean for each class token.

        Raises:
            PlanError: If no channel is left for the grid.
        """
        super().__init__()
        if config.channel_counts[0] <= structure.class_tokens:
            raise PlanError(
                f"channel counts {config.channel_counts}: {structure.class_tokens} stand for class tokens, "
                "give at least one more"
            )
        self.plane = (structure.class_tokens, config.latent_height, config.latent_width)
        self.grid = SlimEncoder(_without_class(config, structure), structure)
        if not structure.class_tokens:
            return
        size = structure.class_tokens * config.latent_height * config.latent_width
        self.project = SlimConv2d(self.grid.hidden, (size,) * len(config.widths), 1)
        self.gain = nn.Parameter(torch.ones(len(config.widths), size))
        self.bias = nn.Parameter(torch.zeros(len(config.widths), size))

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w] of `width_index`."""
        x_nchw = self.grid.features(x_nchw, width_index)
        y_nchw = self.grid.projected(x_nchw, width_index)
        if not self.plane[0]:
            return y_nchw
        with torch.autocast(x_nchw.device.type, enabled=False):
            mean_nc11 = x_nchw.float().mean(dim=(2, 3), keepdim=True)
            tokens = self.project(mean_nc11, width_index)[:, :, 0, 0]
            tokens = tokens * self.gain[width_index] + self.bias[width_index]
        return torch.cat([torch.unflatten(tokens, 1, self.plane), y_nchw], dim=1)

    def materialise(self, width_index: int) -> nn.Module:
        """Return the encoder at one width as plain convolutions.

        Raises:
            GateError: If that width was never calibrated.
        """
        if not self.plane[0]:
            return self.grid.materialise(width_index)
        return PlainTokenEncoder(
            nn.Sequential(*self.grid.materialise_stages(width_index)),
            self.grid.materialise_projection(width_index),
            self.project.materialise(width_index, self.gain[width_index], self.bias[width_index]),
            self.plane,
        )


class PlainTokenEncoder(nn.Module):
    """A materialised `TokenEncoder`."""

    def __init__(
        self, stages: nn.Module, grid: nn.Module, tokens: nn.Module, plane: tuple[int, int, int]
    ) -> None:
        """Take the stages, the projections of the grid and of the mean, and the class tokens' shape."""
        super().__init__()
        self.stages, self.grid, self.tokens, self.plane = stages, grid, tokens, plane

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the latent float32 [n, channels, h, w]."""
        x_nchw = self.stages(x_nchw)
        tokens: Tensor = self.tokens(x_nchw.mean(dim=(2, 3), keepdim=True))
        return torch.cat([torch.unflatten(tokens.flatten(1), 1, self.plane), self.grid(x_nchw)], dim=1)


class TokenDecoder(nn.Module):
    """Real latent → tokens [n, t, d]."""

    def __init__(self, config: SplitConfig, structure: TokenStructure) -> None:
        """Build a convolutional decoder for the grid and two linear layers for the class tokens."""
        super().__init__()
        self.class_tokens, length = structure.class_tokens, config.cut_shape_chw[0]
        self.grid = Decoder(_without_class(config, structure), structure)
        if self.class_tokens:
            numbers = self.class_tokens * config.latent_height * config.latent_width
            hidden = 4 * config.decoder_channels
            self.tokens = nn.Sequential(
                nn.Linear(numbers + config.channels - self.class_tokens, hidden),
                nn.ReLU(),
                nn.Linear(hidden, self.class_tokens * length),
                nn.Unflatten(1, (self.class_tokens, length)),
            )

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the tokens, class tokens first."""
        grid_nchw = z_nchw[:, self.class_tokens :]
        tokens_ntd: Tensor = self.grid(grid_nchw).flatten(2).transpose(1, 2)
        if not self.class_tokens:
            return tokens_ntd
        # The grid's mean tells a class token what the picture shows, where few numbers are sent for it.
        told = torch.cat([z_nchw[:, : self.class_tokens].flatten(1), grid_nchw.mean(dim=(2, 3))], dim=1)
        return torch.cat([self.tokens(told), tokens_ntd], dim=1)


class TokenFamily:
    """Tokens of a transformer through an ordered latent, with slim's encoder and decoder for the grid."""

    name = "token"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether tokens are at `site`, and the latent's plane leads to their grid."""
        structure = read_structure(TokenStructure, size.structure, self.name)
        return site.class_tokens is not None and reaches(site, shape_hwc, size, structure)

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        structure = read_structure(TokenStructure, size.structure, self.name)
        layout = slim_layout(shape_hwc, size, structure)
        class_tokens = site.class_tokens or 0
        counts = tuple(count for count in layout.channel_counts if count > class_tokens)
        return dataclasses.replace(
            layout,
            channel_counts=counts or layout.channel_counts,
            structure=chosen(dataclasses.replace(structure, class_tokens=class_tokens)),
        )

    def encoder(self, config: SplitConfig) -> TokenEncoder:
        """Return the encoder, untrained.

        Raises:
            PlanError: If its stages do not lead to the config's latent, or channels are too few.
        """
        return TokenEncoder(config, slim_structure_of(TokenStructure, config))

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return a quantiser with a learned scale per channel."""
        return LatentQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> TokenDecoder:
        """Return the decoder, untrained.

        Raises:
            PlanError: If the grid is out of its reach.
        """
        return TokenDecoder(config, slim_structure_of(TokenStructure, config))

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return `encoder` at one width as plain convolutions.

        Raises:
            GateError: If that width was never calibrated.
        """
        assert isinstance(encoder, TokenEncoder)
        return encoder.materialise(width_index)

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return a copy: the decoder is plain already."""
        return copy.deepcopy(decoder)


def _without_class(config: SplitConfig, structure: TokenStructure) -> SplitConfig:
    """Return the facts of a bottleneck for the grid alone."""
    channels = config.channels - structure.class_tokens
    return dataclasses.replace(config, channels=channels, channel_counts=(channels,), non_negative=False)
