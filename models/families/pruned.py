"""The uncut network's own first layers, thinned, as encoder; the slimmable family's decoder after it.

Trained layers that are copied are worth more than any training from random numbers. So the encoder is a list
of layers of the kinds that networks are made of. Compute follows the channels, as in every slimmable encoder,
and the depth: a processor's vectors are as long as the channels of a small network, so that fewer channels
save nothing there, and fewer layers do.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig
from isthmus.models.cutting import CutSite
from isthmus.models.families.projection import PrivateProjection, SharedProjection
from isthmus.models.families.protocol import Layout
from isthmus.models.families.pruned_structure import LayerSpec, PrunedStructure, pruned_structure
from isthmus.models.families.slim_blocks import SlimConvNorm, SlimInverted, SlimResidual
from isthmus.models.families.slim_decoder import Decoder, way_between
from isthmus.models.families.slim_structure import SlimStructure
from isthmus.models.families.structure import chosen, read_structure
from isthmus.models.quantise import LatentQuantiser, Quantiser
from isthmus.models.size import BottleneckSize
from isthmus.runtime.errors import PlanError

NAME = "pruned"


class SlimPool(nn.Module):
    """The largest value around every so many pixels."""

    def __init__(self, spec: LayerSpec) -> None:
        """Take kernel and stride."""
        super().__init__()
        self.pool = nn.MaxPool2d(spec.kernel, spec.stride, spec.padding)

    def forward(self, x_nchw: Tensor, _width_index: int) -> Tensor:
        """Return [n, c, h/stride, w/stride]."""
        y_nchw: Tensor = self.pool(x_nchw)
        return y_nchw

    def materialise(self, _width_index: int) -> list[nn.Module]:
        """Return a copy of the pool."""
        return [copy.deepcopy(self.pool)]


Layer = SlimConvNorm | SlimResidual | SlimInverted | SlimPool


class PrunedEncoder(nn.Module):
    """Normalised image → real latent, at any of the widths.

    Attributes:
        specs: What the layers are.
    """

    def __init__(self, config: SplitConfig, structure: PrunedStructure) -> None:
        """Build the layers of `structure`."""
        super().__init__()
        self.specs, widths = structure.specs(), config.widths
        self.skipped = tuple(frozenset(part) for part in structure.skipped) or (frozenset(),) * len(widths)
        previous: tuple[int, ...] = (config.input_channels,) * len(widths)
        self.layers = nn.ModuleList()
        for spec in self.specs:
            channels, hidden = structure.channels(spec, widths)
            self.layers.append(_layer(spec, previous, hidden, channels, private=structure.private))
            previous = channels if spec.channels else previous
        projection = PrivateProjection if structure.private else SharedProjection
        self.project = projection(previous, config.channels)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w] of `width_index`."""
        for layer in self.run_by(width_index):
            x_nchw = layer(x_nchw, width_index)
        # Rounding follows: the projection is done in full precision even under autocast.
        with torch.autocast(x_nchw.device.type, enabled=False):
            y_nchw: Tensor = self.project(x_nchw.float(), width_index)
            return y_nchw

    def run_by(self, width_index: int) -> list[Layer]:
        """Return the layers that a width runs, in their order."""
        left_out = self.skipped[width_index]
        return [cast("Layer", layer) for at, layer in enumerate(self.layers) if at not in left_out]

    def materialise(self, width_index: int) -> nn.Sequential:
        """Return the encoder at `width_index` as plain convolutions, BatchNorm folded in.

        Raises:
            GateError: If that width was never calibrated.
        """
        plain = [part for layer in self.run_by(width_index) for part in layer.materialise(width_index)]
        return nn.Sequential(*plain, self.project.materialise(width_index))


class PrunedFamily:
    """A list of layers before the latent, slim's decoder after it."""

    name = NAME

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether the latent's plane leads to the one at `site`; without layers, whether it may."""
        structure = read_structure(PrunedStructure, size.structure, self.name)
        if site.class_tokens is not None or not structure.layers:
            return site.class_tokens is None
        _, height, width = site.shape_chw
        plane = structure.plane(*shape_hwc[:2])
        return min(plane) > 0 and way_between(plane, (height, width)) is not None

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be.

        Raises:
            PlanError: If there are no layers, or a setting is unknown or makes no sense.
        """
        structure = read_structure(PrunedStructure, size.structure, self.name)
        if not structure.layers:
            raise PlanError(f"bottleneck {self.name!r} needs its layers, or a network to take them from")
        structure.check_widths(size.widths)
        height, width = structure.plane(*shape_hwc[:2])
        return Layout(
            channels=size.channels,
            channel_counts=size.counts(),
            widths=size.widths,
            latent_height=height,
            latent_width=width,
            decoder_channels=size.decoder_channels,
            decoder_blocks=size.decoder_blocks,
            structure=chosen(structure),
        )

    def encoder(self, config: SplitConfig) -> PrunedEncoder:
        """Return the layers, untrained.

        Raises:
            PlanError: If they contradict the widths, or do not lead to the config's latent.
        """
        return PrunedEncoder(config, pruned_structure(config))

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return a quantiser with a learned scale per channel."""
        return LatentQuantiser(config.channels)

    def decoder(self, config: SplitConfig) -> Decoder:
        """Return the decoder, untrained.

        Raises:
            PlanError: If the cut's plane is out of its reach.
        """
        return Decoder(config, SlimStructure())

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return `encoder` at one width as plain convolutions.

        Raises:
            GateError: If that width was never calibrated.
        """
        assert isinstance(encoder, PrunedEncoder)
        return encoder.materialise(width_index)

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return a copy: the decoder is plain already."""
        return copy.deepcopy(decoder)


def _layer(
    spec: LayerSpec,
    previous: tuple[int, ...],
    hidden: tuple[int, ...],
    channels: tuple[int, ...],
    *,
    private: bool,
) -> Layer:
    if spec.kind == "pool":
        return SlimPool(spec)
    if spec.kind == "residual":
        projected = spec.word == "projected"
        if not projected and any(out < have for have, out in zip(previous, channels, strict=True)):
            raise PlanError(f"layer '{spec}': fewer channels than before it; give 'projected', or more")
        return SlimResidual(previous, channels, spec.stride, projected=projected, private=private)
    word = spec.word or ""
    if spec.kind == "inverted":
        return SlimInverted(
            previous, hidden, channels, spec.kernel, spec.stride, activation=word, private=private
        )
    return SlimConvNorm(
        previous, channels, spec.kernel, spec.stride, spec.padding, activation=word, private=private
    )
