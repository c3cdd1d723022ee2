"""Steps of one around each channel's median, which is measured after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.models.calibration import Calibrated
from isthmus.models.quantise import Dequantise, Quantise, Quantiser


class Medians(Calibrated):
    """The median of each channel, averaged over batches."""

    medians: Tensor

    def __init__(self, channels: int) -> None:
        """Take the channels."""
        super().__init__(1, "medians of the latent")
        self.register_buffer("medians", torch.zeros(channels))

    @torch.no_grad()
    def observe(self, y_nchw: Tensor) -> None:
        """Take a batch into the average."""
        medians = y_nchw.transpose(0, 1).flatten(1).median(dim=1).values
        self.batches[0] += 1
        self.medians.lerp_(medians, 1.0 / float(self.batches[0]))


class MedianQuantiser(Quantiser):
    """Steps of one around each channel's median; the encoder learns the scale.

    While the network trains, steps are around zero: noise knows no offset.
    """

    def __init__(self, channels: int) -> None:
        """Take the latent's channels."""
        super().__init__(channels)
        self.offset = Medians(channels)

    def levels(self, y_nchw: Tensor) -> Tensor:
        """Return the latent in levels."""
        return y_nchw - self._offset()

    def dequantised(self, levels_nchw: Tensor) -> Tensor:
        """Return the real latent of levels."""
        return levels_nchw + self._offset()

    def observe(self, y_nchw: Tensor, width_index: int) -> None:
        """Take a batch into the medians."""
        self.offset.observe(y_nchw)

    def materialise_codes(self) -> nn.Module:
        """Return a shift and `Quantise`.

        Raises:
            GateError: If the medians were never calibrated.
        """
        offset = self._measured()
        return nn.Sequential(Shift(-offset), Quantise(torch.ones_like(offset)))

    def materialise_reals(self) -> nn.Module:
        """Return `Dequantise` and a shift.

        Raises:
            GateError: If the medians were never calibrated.
        """
        offset = self._measured()
        return nn.Sequential(Dequantise(torch.ones_like(offset)), Shift(offset))

    def _offset(self) -> Tensor:
        offset = torch.zeros_like(self.offset.medians) if self.training else self._measured()
        return offset[:, None, None]

    def _measured(self) -> Tensor:
        self.offset.check_calibrated(0)
        return self.offset.medians


class Shift(nn.Module):
    """A constant per channel that is added."""

    offset: Tensor

    def __init__(self, offset: Tensor) -> None:
        """Take the constants, [channels]."""
        super().__init__()
        self.register_buffer("offset", offset.detach().clone()[:, None, None])

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the sum."""
        return x_nchw + self.offset
