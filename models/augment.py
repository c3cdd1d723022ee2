"""Augmentation of a whole batch with a few tensor operations, on uint8 pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random shifts of up to `shift` pixels (the border is filled with 0) and, if `flip`, mirror images."""

    shift: int = 0
    flip: bool = False

    def __call__(self, batch_nhwc: Tensor, generator: torch.Generator) -> Tensor:
        """Return an augmented copy of uint8 images [n, h, w, c]."""
        count, height, width, _ = batch_nhwc.shape
        rows = torch.arange(height).expand(count, height)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        if self.shift:
            pad = self.shift
            batch_nhwc = F.pad(batch_nhwc, (0, 0, pad, pad, pad, pad))
            moves = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
            rows, columns = rows + moves[0], columns + moves[1]
        samples = torch.arange(count)[:, None, None]
        return batch_nhwc[samples, rows[:, :, None], columns[:, None, :]]
