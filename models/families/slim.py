"""The slimmable bottleneck: compute follows the width, bytes follow a prefix of ordered channels."""

from __future__ import annotations

import copy

from torch import nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.protocol import Layout
from isthmus.models.families.slim_decoder import Decoder
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.quantise import LatentQuantiser
from isthmus.models.size import BottleneckSize
from isthmus.runtime.errors import PlanError


class SlimFamily:
    """Strided stages of slimmable convolutions; a decoder of residual blocks and pixel shuffles."""

    name = "slim"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether a power of two leads from the latent's plane to the one at `site`."""
        factor = 1 << len(size.encoder)
        if shape_hwc[0] % factor or shape_hwc[1] % factor:
            return False
        height, width = shape_hwc[0] // factor, shape_hwc[1] // factor
        ratios = {site.shape_chw[1] / height, site.shape_chw[2] / width} if height and width else set()
        return len(ratios) == 1 and next(iter(ratios)) in {2.0**power for power in range(-6, 7)}

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return the latent's plane, a halving per stage."""
        factor = 1 << len(size.encoder)
        return Layout(
            channels=size.channels,
            channel_counts=size.counts(),
            widths=size.widths,
            latent_height=shape_hwc[0] // factor,
            latent_width=shape_hwc[1] // factor,
            encoder_stages=size.encoder,
            decoder_channels=size.decoder_channels,
            decoder_blocks=size.decoder_blocks,
        )

    def encoder(self, config: SplitConfig) -> SlimEncoder:
        """Return the stages of `config.encoder_stages`, untrained.

        Raises:
            PlanError: If they do not lead to the config's latent.
        """
        factor = 1 << len(config.encoder_stages)
        planes = ((config.input_height, config.latent_height), (config.input_width, config.latent_width))
        if any(size != latent * factor for size, latent in planes):
            raise PlanError(
                f"input {config.input_height}x{config.input_width} does not divide into a latent of "
                f"{config.latent_height}x{config.latent_width} by {len(config.encoder_stages)} stages"
            )
        return SlimEncoder(config)

    def quantiser(self, config: SplitConfig) -> LatentQuantiser:
        """Return a quantiser with a learned scale per channel."""
        return LatentQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> Decoder:
        """Return the decoder, untrained.

        Raises:
            PlanError: If the cut's plane is out of its reach.
        """
        return Decoder(config)

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
