"""Slimmable layers: one set of weights, several widths, the width an explicit argument.

Weights and the affine of BatchNorm are shared and sliced; statistics are kept per width, because a narrower
layer has another distribution (Yu & Huang, Universally Slimmable Networks, 2019). Statistics are not tracked
while training: `calibration` measures them afterwards, and a width that was never measured refuses to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.models.calibration import Calibrated
from isthmus.models.families.plain import plain_conv


class SlimConv2d(nn.Module):
    """A convolution whose leading input and output channels are used, as the width says."""

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        kernel_size: int,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        """Take the channels per width index; without `padding`, `kernel_size // 2`, which keeps the plane."""
        super().__init__()
        self.in_channels, self.out_channels = tuple(in_channels), tuple(out_channels)
        self.kernel_size, self.stride = kernel_size, stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.weight = nn.Parameter(
            torch.empty(max(self.out_channels), max(self.in_channels), kernel_size, kernel_size)
        )
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def sliced(self, width_index: int) -> Tensor:
        """Return the weight [out, in, k, k] of `width_index`."""
        return self.weight[: self.out_channels[width_index], : self.in_channels[width_index]]

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Convolve with the weight of `width_index`."""
        return F.conv2d(x_nchw, self.sliced(width_index), stride=self.stride, padding=self.padding)

    def materialise(self, width_index: int, gain: Tensor, bias: Tensor) -> nn.Conv2d:
        """Return a plain convolution that also multiplies by `gain` [out] and adds `bias` [out]."""
        return plain_conv(self.sliced(width_index), gain, bias, self.stride, self.padding)


class SlimDepthwise2d(nn.Module):
    """A convolution per channel, of which the leading channels are used; padding keeps the plane."""

    def __init__(self, channels: Sequence[int], kernel_size: int, stride: int = 1) -> None:
        """Take the channels per width index."""
        super().__init__()
        self.channels, self.kernel_size, self.stride = tuple(channels), kernel_size, stride
        self.weight = nn.Parameter(torch.empty(max(self.channels), 1, kernel_size, kernel_size))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def sliced(self, width_index: int) -> Tensor:
        """Return the weight [channels, 1, k, k] of `width_index`."""
        return self.weight[: self.channels[width_index]]

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Convolve with the weight of `width_index`."""
        # The same values; but a CPU takes many times as long for the gradient of a strided one.
        step = self.stride if self.training and x_nchw.device.type == "cpu" else 1
        full: Tensor = F.conv2d(
            x_nchw,
            self.sliced(width_index),
            stride=self.stride // step,
            padding=self.kernel_size // 2,
            groups=self.channels[width_index],
        )
        return full if step == 1 else full[:, :, ::step, ::step].contiguous(memory_format=torch.channels_last)

    def materialise(self, width_index: int, gain: Tensor, bias: Tensor) -> nn.Conv2d:
        """Return a plain convolution that also multiplies by `gain` [channels] and adds `bias` [channels]."""
        return plain_conv(
            self.sliced(width_index),
            gain,
            bias,
            self.stride,
            self.kernel_size // 2,
            self.channels[width_index],
        )


class SlimBatchNorm2d(Calibrated):
    """BatchNorm with one set of statistics per width, and one affine for all or, `private`, per width.

    Training uses the batch's statistics and remembers nothing. Evaluation uses what `calibration` measured.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: Sequence[int], eps: float = 1e-5, *, private: bool = False) -> None:
        """Take the channels per width index, and whether each width has an affine of its own."""
        super().__init__(len(channels), "BatchNorm statistics")
        self.channels, self.eps, self.private = tuple(channels), eps, private
        full = max(self.channels)
        shape = (len(self.channels), full) if private else (full,)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(len(self.channels), full))
        self.register_buffer("variance", torch.ones(len(self.channels), full))

    def forward(self, x_nchw: Tensor, width_index: int) -> Tensor:
        """Normalise with the batch's statistics in training and calibration, else with the width's.

        Raises:
            GateError: If `width_index` was never calibrated.
        """
        weight, bias = self.affine(width_index)
        if self.calibrating:
            self._accumulate(x_nchw, width_index)
        if self.training or self.calibrating:
            return F.batch_norm(x_nchw, None, None, weight, bias, training=True, eps=self.eps)
        mean, variance = self.statistics(width_index)
        return F.batch_norm(x_nchw, mean, variance, weight, bias, eps=self.eps)

    def affine(self, width_index: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias [channels] of `width_index`."""
        count = self.channels[width_index]
        if self.private:
            return self.weight[width_index, :count], self.bias[width_index, :count]
        return self.weight[:count], self.bias[:count]

    def statistics(self, width_index: int) -> tuple[Tensor, Tensor]:
        """Return the calibrated mean and variance [channels] of `width_index`.

        Raises:
            GateError: If that width was never calibrated.
        """
        self.check_calibrated(width_index)
        count = self.channels[width_index]
        return self.mean[width_index, :count], self.variance[width_index, :count]

    def folded(self, width_index: int) -> tuple[Tensor, Tensor]:
        """Return the (gain, bias) [channels], in float64, that evaluation applies at `width_index`.

        Raises:
            GateError: If that width was never calibrated.
        """
        mean, variance = (value.double() for value in self.statistics(width_index))
        weight, bias = (value.detach().double() for value in self.affine(width_index))
        gain = weight / (variance + self.eps).sqrt()
        return gain, bias - mean * gain

    @torch.no_grad()
    def _accumulate(self, x_nchw: Tensor, width_index: int) -> None:
        # A plain average over the calibration batches: every one counts alike, none is forgotten.
        variance, mean = torch.var_mean(x_nchw.float(), dim=(0, 2, 3))
        self.batches[width_index] += 1
        share, count = 1.0 / float(self.batches[width_index]), mean.numel()
        self.mean[width_index, :count].lerp_(mean, share)
        self.variance[width_index, :count].lerp_(variance, share)
