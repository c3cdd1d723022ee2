"""The slimmable bottleneck: compute follows the width, bytes follow a prefix of ordered channels."""

from __future__ import annotations

import copy

from torch import nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.protocol import Layout
from isthmus.models.families.slim_decoder import Decoder, way_between
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.families.slim_structure import SlimStructure, slim_structure
from isthmus.models.families.structure import chosen, read_structure
from isthmus.models.quantise import LatentQuantiser, Quantiser
from isthmus.models.size import BottleneckSize


class SlimFamily:
    """Strided stages of slimmable convolutions; a decoder of blocks and pixel shuffles."""

    name = "slim"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether the latent's plane leads to the one at `site`."""
        structure = read_structure(SlimStructure, size.structure, self.name)
        return site.class_tokens is None and reaches(site, shape_hwc, size, structure)

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        structure = read_structure(SlimStructure, size.structure, self.name)
        return slim_layout(shape_hwc, size, structure)

    def encoder(self, config: SplitConfig) -> SlimEncoder:
        """Return the stages of `config.encoder_stages`, untrained.

        Raises:
            PlanError: If they do not lead to the config's latent.
        """
        return SlimEncoder(config, slim_structure(config))

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return a quantiser with a learned scale per channel."""
        return LatentQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> Decoder:
        """Return the decoder, untrained.

        Raises:
            PlanError: If the cut's plane is out of its reach.
        """
        return Decoder(config, slim_structure(config))

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return `encoder` at one width as plain convolutions.

        Raises:
            GateError: If that width was never calibrated.
        """
        assert isinstance(encoder, SlimEncoder)
        return encoder.materialise(width_index)

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return a copy: the decoder is plain already."""
        return copy.deepcopy(decoder)


def reaches(
    site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize, structure: SlimStructure
) -> bool:
    """Say whether slimmable stages and the decoder lead to the plane at `site`."""
    plane = structure.plane(shape_hwc[0], shape_hwc[1], size.encoder)
    _, height, width = site.shape_chw
    return way_between(plane, (height, width)) is not None


def slim_layout(shape_hwc: tuple[int, int, int], size: BottleneckSize, structure: SlimStructure) -> Layout:
    """Return the layout of a slimmable bottleneck of `size`."""
    plane = structure.plane(shape_hwc[0], shape_hwc[1], size.encoder)
    return Layout(
        channels=size.channels,
        channel_counts=size.counts(),
        widths=size.widths,
        latent_height=plane[0],
        latent_width=plane[1],
        encoder_stages=size.encoder,
        decoder_channels=size.decoder_channels,
        decoder_blocks=size.decoder_blocks,
        structure=chosen(structure),
    )
