"""GDN (Ballé et al., 2016): y_i = x_i / √(β_i + Σ_j γ_ij x_j²), and its inverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# β stays above this, γ begins at it off the diagonal, where a square's gradient would otherwise vanish.
_SMALLEST_BETA, _OFF_DIAGONAL = 1e-6, 1e-4


class Gdn(nn.Module):
    """GDN, or with `inverse` the multiplication by the same root, of plain operations only."""

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        """Take the channels."""
        super().__init__()
        self.inverse = inverse
        # Squares keep β and γ from being negative.
        self.root_beta = nn.Parameter(torch.ones(channels))
        gamma = 0.1 * torch.eye(channels) + _OFF_DIAGONAL
        self.root_gamma = nn.Parameter(gamma.sqrt())

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the normalised features, same shape."""
        # Squares overflow and lose digits in 16 bits.
        with torch.autocast(x_nchw.device.type, enabled=False):
            x_nchw = x_nchw.float()
            gamma = self.root_gamma.square()[:, :, None, None]
            root = F.conv2d(x_nchw.square(), gamma, self.root_beta.square() + _SMALLEST_BETA).sqrt()
            return x_nchw * root if self.inverse else x_nchw / root

    def materialise(self) -> nn.Module:
        """Return the same function with β and γ as constants."""
        return PlainGdn(self)


class PlainGdn(nn.Module):
    """A materialised `Gdn`."""

    def __init__(self, gdn: Gdn) -> None:
        """Copy its parameters."""
        super().__init__()
        channels = len(gdn.root_beta)
        self.inverse, self.sum = gdn.inverse, nn.Conv2d(channels, channels, 1)
        assert self.sum.bias is not None
        with torch.no_grad():
            self.sum.weight.copy_(gdn.root_gamma.square()[:, :, None, None])
            self.sum.bias.copy_(gdn.root_beta.square() + _SMALLEST_BETA)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the normalised features, same shape."""
        root: Tensor = self.sum(x_nchw * x_nchw).sqrt()
        return x_nchw * root if self.inverse else x_nchw / root
