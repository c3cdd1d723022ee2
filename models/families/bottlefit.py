"""BottleFit's bottleneck, for comparison: one width, all channels always, bytes by minimum and maximum.

Strides are as published for large images; for small ones they are reduced, so that the latent's side is a
quarter of the image's.
"""

from __future__ import annotations

from torch import nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.bottlefit_layers import (
    BottlefitDecoder,
    BottlefitEncoder,
    BottlefitStructure,
    pooling_stride,
)
from isthmus.models.families.min_max import MinMaxQuantiser
from isthmus.models.families.plain import within_reach
from isthmus.models.families.protocol import Layout
from isthmus.models.families.structure import check_latent, chosen, read_structure
from isthmus.models.quantise import Quantiser
from isthmus.models.size import BottleneckSize

# Up to this side an image is small.
_SMALL_SIDE = 64
_SMALL = {"strides": (2, 1, 2), "padding": 0, "decoder_hidden": 128}


class BottlefitFamily:
    """A thin encoder of two convolutions and a decoder of four."""

    name = "bottlefit"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether a pooling or one interpolation leads from the latent's plane to the one at `site`."""
        plane = self._structure(shape_hwc, size).plane(*shape_hwc[:2])
        goal = (site.shape_chw[1], site.shape_chw[2])
        if site.class_tokens is not None or min(plane) < 1:
            return False
        return pooling_stride(plane, goal) is not None or within_reach(plane, goal)

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        structure = self._structure(shape_hwc, size)
        height, width = structure.plane(*shape_hwc[:2])
        return Layout(
            channels=size.channels,
            channel_counts=(size.channels,),
            widths=(1.0,),
            latent_height=height,
            latent_width=width,
            structure=chosen(structure),
        )

    def encoder(self, config: SplitConfig) -> BottlefitEncoder:
        """Return the encoder, untrained.

        Raises:
            PlanError: If it does not lead to the config's latent.
        """
        structure = read_structure(BottlefitStructure, config.structure, self.name)
        check_latent(config, structure.plane(config.input_height, config.input_width))
        return BottlefitEncoder(config, structure)

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return a quantiser that is fitted after training."""
        return MinMaxQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> BottlefitDecoder:
        """Return the decoder, untrained."""
        return BottlefitDecoder(config, read_structure(BottlefitStructure, config.structure, self.name))

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return `encoder` as plain convolutions; there is one width.

        Raises:
            GateError: If it was never calibrated.
        """
        assert isinstance(encoder, BottlefitEncoder)
        return encoder.materialise()

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return `decoder` as plain convolutions.

        Raises:
            GateError: If it was never calibrated.
        """
        assert isinstance(decoder, BottlefitDecoder)
        return decoder.materialise()

    def _structure(self, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> BottlefitStructure:
        small = _SMALL if max(shape_hwc[:2]) <= _SMALL_SIDE else {}
        return read_structure(BottlefitStructure, {**small, **size.structure}, self.name)
