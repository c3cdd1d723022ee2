"""Bytes by the least and the largest value of a latent: fitted after training, one scale for all channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.models.calibration import Calibrated
from isthmus.models.quantise import Dequantise, Quantise, Quantiser


class MinMax(Calibrated):
    """The least and the largest value of a tensor, zero included."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        """Begin without statistics."""
        super().__init__(1, "range of the latent")
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @torch.no_grad()
    def observe(self, y_nchw: Tensor) -> None:
        """Widen the range by a batch."""
        if int(self.batches[0]) == 0:
            self.low.zero_()
            self.high.zero_()
        self.batches[0] += 1
        self.low.copy_(torch.minimum(self.low, y_nchw.amin()))
        self.high.copy_(torch.maximum(self.high, y_nchw.amax()))

    def scale_and_zero(self) -> tuple[float, int]:
        """Return the levels per unit and the byte of zero.

        Raises:
            GateError: If nothing was ever observed.
        """
        self.check_calibrated(0)
        scale = 255.0 / max(float(self.high - self.low), 1e-6)
        return scale, max(0, min(255, round(-float(self.low) * scale)))


class MinMaxQuantiser(Quantiser):
    """A byte per value between the least and the largest of the whole tensor, fitted after training.

    While the network trains, nothing is quantised.
    """

    def __init__(self, channels: int) -> None:
        """Take the latent's channels."""
        super().__init__(channels)
        self.channels, self.range = channels, MinMax()

    @property
    def zero_point(self) -> int:
        """The byte of zero.

        Raises:
            GateError: If the range was never calibrated.
        """
        return self.range.scale_and_zero()[1]

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return the latent in levels; in training the latent itself."""
        return y_nchw if self.training else y_nchw * self.range.scale_and_zero()[0]

    def rounded(self, levels_nchw: Tensor) -> Tensor:
        """Return rounded levels; in training what is given."""
        return levels_nchw if self.training else super().rounded(levels_nchw)

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the real latent of levels."""
        return levels_nchw if self.training else levels_nchw / self.range.scale_and_zero()[0]

    def observe(self, y_nchw: Tensor, width_index: int) -> None:
        """Widen the range by a batch."""
        self.range.observe(y_nchw)

    def materialise_codes(self) -> nn.Module:
        """Return `Quantise` by the range.

        Raises:
            GateError: If it was never calibrated.
        """
        scale, zero_point = self.range.scale_and_zero()
        return Quantise(torch.full((self.channels,), scale), zero_point)

    def materialise_reals(self) -> nn.Module:
        """Return `Dequantise` by the range.

        Raises:
            GateError: If it was never calibrated.
        """
        scale, zero_point = self.range.scale_and_zero()
        return Dequantise(torch.full((self.channels,), scale), zero_point)
