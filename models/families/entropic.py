"""Entropic Student's bottleneck (Matsubara et al., WACV 2022), for comparison: few values, cheap to code.

Conv5 s2 – GDN – Conv5 s2 – GDN – Conv2 on the device; three Conv2 with inverse GDN between on the server.
One width, all channels always. It is trained with noise in place of rounding, and its learned prior is
factorised: both are settings of the training. What remains of the prior at export is the offset of each
channel's levels, its median, so that the commonest value is exactly a level.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.gdn import Gdn
from isthmus.models.families.medians import MedianQuantiser
from isthmus.models.families.plain import Resize, within_reach
from isthmus.models.families.protocol import Layout
from isthmus.models.families.structure import check_latent, chosen, read_structure
from isthmus.models.quantise import INITIAL_SCALE, Quantiser
from isthmus.models.size import BottleneckSize
from isthmus.runtime.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropicStructure:
    """The settings of an Entropic Student; the defaults are the published ones.

    Attributes:
        strides: Of the two 5×5 convolutions.
        decoder_hidden: Channels of the decoder before the cut's.
    """

    strides: tuple[int, ...] = (2, 2)
    decoder_hidden: tuple[int, ...] = (512, 256)

    def __post_init__(self) -> None:
        if len(self.strides) != 2 or any(stride not in (1, 2) for stride in self.strides):
            raise PlanError(f"strides {self.strides}: give 1 or 2 for each of two convolutions")
        if len(self.decoder_hidden) != 2 or min(self.decoder_hidden) < 1:
            raise PlanError(f"decoder_hidden {self.decoder_hidden}: give the channels of two convolutions")

    def plane(self, height: int, width: int) -> tuple[int, int]:
        """Return the latent's height and width for images of this size."""

        def side(size: int) -> int:
            for stride in self.strides:
                size = (size - 1) // stride + 1
            return size - 1

        return side(height), side(width)


class EntropicEncoder(nn.Module):
    """Normalised image → real latent."""

    def __init__(self, config: SplitConfig, structure: EntropicStructure) -> None:
        """Build the published layers: four and two times the latent's channels before it."""
        super().__init__()
        counts = (config.input_channels, 4 * config.channels, 2 * config.channels)
        layers: list[nn.Module] = []
        for before, after, stride in zip(counts, counts[1:], structure.strides, strict=False):
            layers += [nn.Conv2d(before, after, 5, stride, 2, bias=False), Gdn(after)]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Conv2d(counts[-1], config.channels, 2, bias=False)
        for conv in (*layers, self.project):
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        with torch.no_grad():  # a step is one: the latent begins some steps wide
            self.project.weight.mul_(INITIAL_SCALE)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w]; there is one width."""
        x_nchw = self.layers(x_nchw)
        with torch.autocast(x_nchw.device.type, enabled=False):
            y_nchw: Tensor = self.project(x_nchw.float())
        return y_nchw

    def materialise(self) -> nn.Module:
        """Return the encoder as plain layers."""
        return nn.Sequential(*plain_layers(self.layers), copy.deepcopy(self.project))


class EntropicDecoder(nn.Module):
    """Real latent → features at the cut."""

    def __init__(self, config: SplitConfig, structure: EntropicStructure) -> None:
        """Build the published layers, with an interpolation where the cut's plane asks for one."""
        super().__init__()
        out_channels, *goal = config.cut_shape_chw
        first, second = structure.decoder_hidden
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, first, 2, padding=1, bias=False),
            Gdn(first, inverse=True),
            nn.Conv2d(first, second, 2, bias=False),
            Gdn(second, inverse=True),
        ]
        # The last convolution adds one to a side.
        before = [side - 1 for side in goal]
        if before != [config.latent_height, config.latent_width]:
            layers.append(Resize(before[0], before[1]))
        layers.append(nn.Conv2d(second, out_channels, 2, padding=1, bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, z_nchw: Tensor) -> Tensor:
        """Return the features [n, *cut_shape_chw]."""
        features: Tensor = self.layers(z_nchw)
        return features

    def materialise(self) -> nn.Module:
        """Return the decoder as plain layers."""
        return nn.Sequential(*plain_layers(self.layers))


def plain_layers(layers: nn.Sequential) -> list[nn.Module]:
    """Return copies of `layers`, with every GDN's parameters made constants."""
    return [layer.materialise() if isinstance(layer, Gdn) else copy.deepcopy(layer) for layer in layers]


class EntropicFamily:
    """Two strided convolutions with divisive normalisation, and three to decode."""

    name = "entropic"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether one interpolation leads from the latent's plane to the one at `site`."""
        plane = read_structure(EntropicStructure, size.structure, self.name).plane(*shape_hwc[:2])
        _, height, width = site.shape_chw
        if site.class_tokens is not None or min(*plane, height - 1, width - 1) < 1:
            return False
        return within_reach((plane[0] + 1, plane[1] + 1), (height, width))

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        structure = read_structure(EntropicStructure, size.structure, self.name)
        height, width = structure.plane(*shape_hwc[:2])
        return Layout(
            channels=size.channels,
            channel_counts=(size.channels,),
            widths=(1.0,),
            latent_height=height,
            latent_width=width,
            structure=chosen(structure),
        )

    def encoder(self, config: SplitConfig) -> EntropicEncoder:
        """Return the encoder, untrained.

        Raises:
            PlanError: If it does not lead to the config's latent.
        """
        structure = read_structure(EntropicStructure, config.structure, self.name)
        check_latent(config, structure.plane(config.input_height, config.input_width))
        return EntropicEncoder(config, structure)

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return steps of one around medians that are measured after training."""
        return MedianQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> EntropicDecoder:
        """Return the decoder, untrained."""
        return EntropicDecoder(config, read_structure(EntropicStructure, config.structure, self.name))

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return `encoder` as plain layers; there is one width."""
        assert isinstance(encoder, EntropicEncoder)
        return encoder.materialise()

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return `decoder` as plain layers."""
        assert isinstance(decoder, EntropicDecoder)
        return decoder.materialise()
