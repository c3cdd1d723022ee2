"""An ensemble of up to four quarter-width encoders at one to four bits: 16 modes (arXiv 2306.12691).

The number of encoders, whose latents are summed, is the width; each bit of the uniform quantiser is a group
of channels on the wire, the highest first. So a prefix of channels is a number of bits: an operating point
needs no field for them, and what is absent is at the zero point, as in every other family.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import cast

import torch
from torch import Tensor, nn

from isthmus.models.config import SplitConfig, scaled_channels
from isthmus.models.cutting import CutSite
from isthmus.models.families.protocol import Layout
from isthmus.models.families.slim import reaches, slim_layout
from isthmus.models.families.slim_decoder import Decoder
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.families.slim_structure import SlimStructure, slim_structure
from isthmus.models.families.structure import read_structure
from isthmus.models.quantise import Quantiser
from isthmus.models.size import BottleneckSize

# Published weights of the sum, and the share of channels that each encoder has.
WEIGHTS, SHARE = (1.0, 2.0, 1.0, 0.5), 0.25
BITS = 4


class EnsembleEncoder(nn.Module):
    """Normalised image → weighted sum of the latents of the first `width_index + 1` encoders."""

    def __init__(self, config: SplitConfig, structure: SlimStructure) -> None:
        """Build one narrow encoder per weight."""
        super().__init__()
        stages = tuple((scaled_channels(full, SHARE), blocks) for full, blocks in config.encoder_stages)
        narrow = dataclasses.replace(_reals(config), widths=(1.0,), encoder_stages=stages)
        self.members = nn.ModuleList(SlimEncoder(narrow, structure) for _ in WEIGHTS)

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Return the latent float32 [n, channels, h, w]."""
        parts = zip(WEIGHTS, list(self.members)[: width_index + 1], strict=False)
        return torch.stack([weight * member(x_nchw, 0) for weight, member in parts]).sum(dim=0)

    def materialise(self, width_index: int) -> nn.Module:
        """Return the sum of so many encoders as plain convolutions.

        Raises:
            GateError: If one of them was never calibrated.
        """
        members = [cast("SlimEncoder", member) for member in list(self.members)[: width_index + 1]]
        return WeightedSum([member.materialise(0) for member in members], WEIGHTS[: width_index + 1])


class WeightedSum(nn.Module):
    """A weighted sum of what several modules make of one input."""

    def __init__(self, members: list[nn.Module], weights: tuple[float, ...]) -> None:
        """Take the modules and a weight for each."""
        super().__init__()
        self.members, self.weights = nn.ModuleList(members), weights

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum."""
        total: Tensor = self.weights[0] * self.members[0](x_nchw)
        for weight, member in zip(self.weights[1:], list(self.members)[1:], strict=True):
            total = total + weight * member(x_nchw)
        return total


class BitPlaneQuantiser(Quantiser):
    """Uniform quantiser of `bits` bits inside (−1, 1), bit by bit from the highest.

    With signs s_b ∈ {−1, 1}, Σ_{b=1..k} s_b·2⁻ᵇ is the middle of the one of 2ᵏ equal intervals in which the
    value lies: the first k bits are the k-bit quantiser. A sign is a level, one channel each.
    """

    def __init__(self, channels: int, bits: int = BITS) -> None:
        """Take the real latent's channels and the bits of each value."""
        super().__init__(channels)
        self.bits = bits
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return signed remainders [n, bits · channels, h, w], the highest bit's first, before rounding."""
        return bit_planes(self._inside(y_nchw), self.bits)

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the sum of the bits' values; absent ones, at 0, add nothing."""
        return sum_planes(levels_nchw, self.bits)

    def materialise_codes(self) -> nn.Module:
        """Return the exported end of a head."""
        return _Codes(self)

    def materialise_reals(self) -> nn.Module:
        """Return the exported start of a tail."""
        return _Reals(self.bits, self.zero_point)

    def _inside(self, y_nchw: Tensor) -> Tensor:
        return (y_nchw * self.log_scale.exp()[:, None, None]).tanh()

    def _hard(self, levels_nchw: Tensor) -> Tensor:
        return signs(levels_nchw)


class _Codes(nn.Module):
    # Between neighbouring codes: a sign is −1 or 1.
    step = 2

    def __init__(self, quantiser: BitPlaneQuantiser) -> None:
        super().__init__()
        self.quantiser = copy.deepcopy(quantiser)

    def forward(self, y_nchw: Tensor) -> Tensor:
        return self.quantiser.codes(y_nchw)


class _Reals(nn.Module):
    def __init__(self, bits: int, zero_point: int) -> None:
        super().__init__()
        self.bits, self.zero_point = bits, zero_point

    def forward(self, codes_nchw: Tensor) -> Tensor:
        return sum_planes(codes_nchw.float() - self.zero_point, self.bits)


def signs(x: Tensor) -> Tensor:
    """Return 1 where `x` is at least 0, else −1."""
    return (x >= 0).to(x.dtype) * 2 - 1


def bit_planes(v_nchw: Tensor, bits: int) -> Tensor:
    """Return what each bit's sign is taken of, [n, bits · channels, h, w], for values in (−1, 1).

    The gradient of the sum of all bits, or of any prefix, with respect to the value is 1: it passes through
    the first bit alone.
    """
    planes, rest = [2 * v_nchw], v_nchw.detach()
    for bit in range(1, bits):
        rest = rest - signs(rest) * 2.0**-bit
        planes.append(rest * 2.0 ** (bit + 1))
    return torch.cat(planes, dim=1)


def sum_planes(levels_nchw: Tensor, bits: int) -> Tensor:
    """Return Σ 2⁻ᵇ of the planes, [n, channels, h, w]."""
    planes = torch.unflatten(levels_nchw, 1, (bits, levels_nchw.shape[1] // bits)).unbind(1)
    total = planes[0] * 0.5
    for bit, plane in enumerate(planes[1:], 2):
        total = total + plane * 2.0**-bit
    return total


class EnsembleFamily:
    """Quarter-width encoders whose number is the compute, and bits that are the payload."""

    name = "ensemble"

    def fits(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> bool:
        """Say whether the latent's plane leads to the one at `site`."""
        structure = read_structure(SlimStructure, size.structure, self.name)
        return site.class_tokens is None and reaches(site, shape_hwc, size, structure)

    def layout(self, site: CutSite, shape_hwc: tuple[int, int, int], size: BottleneckSize) -> Layout:
        """Return what the bottleneck will be: `size.channels` values per place, each of one to four bits.

        Raises:
            PlanError: If a setting is unknown or makes no sense.
        """
        structure = read_structure(SlimStructure, size.structure, self.name)
        return dataclasses.replace(
            slim_layout(shape_hwc, size, structure),
            channels=BITS * size.channels,
            channel_counts=tuple(bits * size.channels for bits in range(1, BITS + 1)),
            widths=tuple((number + 1) / len(WEIGHTS) for number in range(len(WEIGHTS))),
        )

    def encoder(self, config: SplitConfig) -> EnsembleEncoder:
        """Return the encoders, untrained.

        Raises:
            PlanError: If their stages do not lead to the config's latent.
        """
        return EnsembleEncoder(config, slim_structure(config))

    def quantiser(self, config: SplitConfig) -> Quantiser:
        """Return the quantiser of one to four bits."""
        return BitPlaneQuantiser(config.channels // BITS)

    def decoder(self, config: SplitConfig) -> Decoder:
        """Return slim's decoder, untrained.

        Raises:
            PlanError: If the cut's plane is out of its reach.
        """
        return Decoder(_reals(config), slim_structure(config))

    def materialise(self, encoder: nn.Module, width_index: int) -> nn.Module:
        """Return the first `width_index + 1` encoders as plain convolutions.

        Raises:
            GateError: If one of them was never calibrated.
        """
        assert isinstance(encoder, EnsembleEncoder)
        return encoder.materialise(width_index)

    def materialise_decoder(self, decoder: nn.Module) -> nn.Module:
        """Return a copy: the decoder is plain already."""
        return copy.deepcopy(decoder)


def _reals(config: SplitConfig) -> SplitConfig:
    """Return the facts of the real latent, of which each value is `BITS` channels on the wire."""
    channels = config.channels // BITS
    return dataclasses.replace(config, channels=channels, channel_counts=(channels,))
