"""From real latents to bytes and back, in training and in the exported graphs.

q = clip(round(y · scale_c) + 128, 0, 255), and back (q − 128) / scale_c, where no family says otherwise. The
scale belongs to the channel, not to the width, so that one tail serves every width. Rounding is half to even,
as ONNX's Round.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from isthmus.models.config import ZERO_POINT

INITIAL_SCALE = 4.0


class Quantiser(nn.Module):
    """What stands between a real latent and its bytes: a level is what one step of a byte stands for.

    Attributes:
        real_channels: Channels of the real latent that a decoder takes.
    """

    def __init__(self, real_channels: int) -> None:
        """Take the channels of the real latent."""
        super().__init__()
        self.real_channels = real_channels

    @property
    def zero_point(self) -> int:
        """The byte of an absent value, which is exactly zero to the decoder."""
        return ZERO_POINT

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return the real latent in levels, before rounding, one channel per channel on the wire."""
        raise NotImplementedError

    def rounded(self, levels_nchw: Tensor) -> Tensor:
        """Round and clip in the forward pass; the gradient passes straight through (Bengio et al., 2013)."""
        return levels_nchw + (self._hard(levels_nchw) - levels_nchw).detach()

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the real latent [n, real_channels, h, w] of (rounded) levels."""
        raise NotImplementedError

    def observe(self, y_nchw: Tensor, width_index: int) -> None:
        """Measure the real latent, where this quantiser is fitted after training."""

    def codes(self, y_nchw: Tensor) -> Tensor:
        """Return the bytes uint8 of a real latent."""
        return (self._hard(self.levels(y_nchw)) + self.zero_point).to(torch.uint8)

    def materialise_codes(self) -> nn.Module:
        """Return the exported end of a head: real latent → uint8 codes."""
        raise NotImplementedError

    def materialise_reals(self) -> nn.Module:
        """Return the exported start of a tail: uint8 codes → real latent."""
        raise NotImplementedError

    def _hard(self, levels_nchw: Tensor) -> Tensor:
        return levels_nchw.round().clamp(-self.zero_point, 255 - self.zero_point)


class LatentQuantiser(Quantiser):
    """Per-channel uniform quantiser with a learned scale and straight-through rounding."""

    def __init__(self, channels: int) -> None:
        """Take the latent's channel count."""
        super().__init__(channels)
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(INITIAL_SCALE)))

    @property
    def scale(self) -> Tensor:
        """Levels per unit of latent, [channels], positive."""
        return self.log_scale.exp()

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return the latent in levels, before rounding, [n, channels, h, w]."""
        return y_nchw * self.scale[:, None, None]

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the real latent of (rounded) levels."""
        return levels_nchw / self.scale[:, None, None]

    def materialise_codes(self) -> nn.Module:
        """Return `Quantise` by this scale."""
        return Quantise(self.scale)

    def materialise_reals(self) -> nn.Module:
        """Return `Dequantise` by this scale."""
        return Dequantise(self.scale)


class Quantise(nn.Module):
    """The exported end of a head: real latent → uint8 codes."""

    scale: Tensor

    def __init__(self, scale: Tensor, zero_point: int = ZERO_POINT) -> None:
        """Take the levels per unit, [channels], and the byte of zero."""
        super().__init__()
        self.zero_point = zero_point
        self.register_buffer("scale", scale.detach().clone()[:, None, None])

    def forward(self, y_nchw: Tensor) -> Tensor:
        """Return codes uint8 [n, channels, h, w]."""
        return (y_nchw * self.scale).round().add(self.zero_point).clamp(0, 255).to(torch.uint8)


class Dequantise(nn.Module):
    """The exported start of a tail: uint8 codes → real latent."""

    step: Tensor

    def __init__(self, scale: Tensor, zero_point: int = ZERO_POINT) -> None:
        """Take the levels per unit, [channels], and the byte of zero."""
        super().__init__()
        self.zero_point = zero_point
        self.register_buffer("step", 1.0 / scale.detach().clone()[:, None, None])

    def forward(self, codes_nchw: Tensor) -> Tensor:
        """Return the real latent float32 [n, channels, h, w]; a code at the zero point becomes exactly 0."""
        return (codes_nchw.float() - self.zero_point) * self.step


def prefix_mask(counts: Tensor, channels: int) -> Tensor:
    """Return [n, channels, 1, 1] with 1 for the first `counts[i]` channels of sample i, else 0."""
    return (torch.arange(channels, device=counts.device) < counts[:, None]).float()[:, :, None, None]
