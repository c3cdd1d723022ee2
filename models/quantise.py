"""From real latents to bytes and back, in training and in the exported graphs.

q = clip(round(y · scale_c) + 128, 0, 255), and back (q − 128) / scale_c. The scale belongs to the channel,
not to the width, so that one tail serves every width. Rounding is half to even, as ONNX's Round.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from isthmus.models.config import ZERO_POINT

# The code is signed around the zero point; symmetric limits keep ±127 levels.
LOWEST, HIGHEST = -ZERO_POINT, 255 - ZERO_POINT
INITIAL_SCALE = 4.0


class LatentQuantiser(nn.Module):
    """Per-channel uniform quantiser with a learned scale and straight-through rounding."""

    def __init__(self, channels: int) -> None:
        """Take the latent's channel count."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(INITIAL_SCALE)))

    @property
    def scale(self) -> Tensor:
        """Levels per unit of latent, [channels], positive."""
        return self.log_scale.exp()

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return the latent in levels, before rounding, [n, channels, h, w]."""
        return y_nchw * self.scale[:, None, None]

    def rounded(self, levels_nchw: Tensor) -> Tensor:
        """Round and clip in the forward pass; the gradient passes straight through (Bengio et al., 2013)."""
        hard = levels_nchw.round().clamp(LOWEST, HIGHEST)
        return levels_nchw + (hard - levels_nchw).detach()

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the real latent of (rounded) levels."""
        return levels_nchw / self.scale[:, None, None]


class Quantise(nn.Module):
    """The exported end of a head: real latent → uint8 codes."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        """Take the levels per unit, [channels]."""
        super().__init__()
        self.register_buffer("scale", scale.detach().clone()[:, None, None])

    def forward(self, y_nchw: Tensor) -> Tensor:
        """Return codes uint8 [n, channels, h, w]."""
        return (y_nchw * self.scale).round().add(ZERO_POINT).clamp(0, 255).to(torch.uint8)


class Dequantise(nn.Module):
    """The exported start of a tail: uint8 codes → real latent."""

    step: Tensor

    def __init__(self, scale: Tensor) -> None:
        """Take the levels per unit, [channels]."""
        super().__init__()
        self.register_buffer("step", 1.0 / scale.detach().clone()[:, None, None])

    def forward(self, codes_nchw: Tensor) -> Tensor:
        """Return the real latent float32 [n, channels, h, w]; a code at the zero point becomes exactly 0."""
        return (codes_nchw.float() - ZERO_POINT) * self.step


def prefix_mask(counts: Tensor, channels: int) -> Tensor:
    """Return [n, channels, 1, 1] with 1 for the first `counts[i]` channels of sample i, else 0."""
    return (torch.arange(channels, device=counts.device) < counts[:, None]).float()[:, :, None, None]
