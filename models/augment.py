"""Augmentation of a whole batch with a few tensor operations, on uint8 pixels.

Every random number comes from the generator that is given, drawn on the CPU, so that a resumed run and a run
on another device see the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Share of each colour in perceived brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
# Random resized crops: the range of width over height (Szegedy et al., 2015).
_LOWEST_RATIO, _HIGHEST_RATIO = 3 / 4, 4 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What happens to every image by itself.

    Attributes:
        shift: Random moves of up to so many pixels; the border is filled with 0.
        flip: Half of the images are mirrored.
        crop_scale: Smallest share of the area that a random crop keeps, scaled back to full size; 1: none.
        jitter: Brightness, contrast and saturation vary by factors within 1 ± jitter.
    """

    shift: int = 0
    flip: bool = False
    crop_scale: float = 1.0
    jitter: float = 0.0

    def __call__(self, batch_nhwc: Tensor, generator: torch.Generator) -> Tensor:
        """Return an augmented copy of uint8 images [n, h, w, c]."""
        count = len(batch_nhwc)
        mirrored = torch.rand(count, generator=generator) < 0.5 if self.flip else None
        if self.crop_scale < 1.0:
            batch_nhwc = self._cropped(batch_nhwc, mirrored, generator)
            mirrored = None
        if mirrored is not None or self.shift:
            batch_nhwc = self._moved(batch_nhwc, mirrored, generator)
        return self._coloured(batch_nhwc, generator) if self.jitter else batch_nhwc

    def _moved(self, batch_nhwc: Tensor, mirrored: Tensor | None, generator: torch.Generator) -> Tensor:
        count, height, width, _ = batch_nhwc.shape
        rows = torch.arange(height).expand(count, height)
        columns = torch.arange(width).expand(count, width)
        if mirrored is not None:
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        if self.shift:
            pad = self.shift
            batch_nhwc = F.pad(batch_nhwc, (0, 0, pad, pad, pad, pad))
            moves = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
            rows, columns = rows + moves[0], columns + moves[1]
        samples, device = torch.arange(count)[:, None, None], batch_nhwc.device
        places = (samples, rows[:, :, None], columns[:, None, :])
        return batch_nhwc[tuple(place.to(device) for place in places)]

    def _cropped(self, batch_nhwc: Tensor, mirrored: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return random crops, bilinearly scaled back; mirroring costs nothing here."""
        count, height, width, channels = batch_nhwc.shape
        draws = torch.rand(4, count, generator=generator)
        area = self.crop_scale + (1.0 - self.crop_scale) * draws[0]
        low, high = math.log(_LOWEST_RATIO), math.log(_HIGHEST_RATIO)
        ratio = (low + (high - low) * draws[1]).exp()
        # Shares of the sides, in the affine map's units: 1 is the whole side, from −1 to 1.
        wide, tall = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
        right, down = (1.0 - wide) * (2.0 * draws[2] - 1.0), (1.0 - tall) * (2.0 * draws[3] - 1.0)
        if mirrored is not None:
            wide = torch.where(mirrored, -wide, wide)
        none = torch.zeros(count)
        rows = (torch.stack((wide, none, right), dim=1), torch.stack((none, tall, down), dim=1))
        maps = torch.stack(rows, dim=1).to(batch_nhwc.device)
        grid = F.affine_grid(maps, [count, channels, height, width], align_corners=False)
        x_nchw = batch_nhwc.permute(0, 3, 1, 2).float()
        crops = F.grid_sample(x_nchw, grid, padding_mode="border", align_corners=False)
        return crops.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def _coloured(self, batch_nhwc: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with other saturation, contrast and brightness: a linear map of the colours each."""
        count, height, width, channels = batch_nhwc.shape
        draws = 1.0 + self.jitter * (2.0 * torch.rand(3, count, generator=generator) - 1.0)
        bright, contrast, saturation = draws.to(batch_nhwc.device)[..., None, None]
        luma = torch.tensor(_LUMA if channels == 3 else (1.0,), device=batch_nhwc.device)
        pixels = batch_nhwc.reshape(count, height * width, channels).float()
        grey = (pixels.mean(dim=1, keepdim=True) @ luma)[:, :, None]
        own, shared = torch.eye(channels, device=luma.device), luma[:, None].expand(channels, channels)
        colours = saturation * own + (1.0 - saturation) * shared
        changed = torch.baddbmm(bright * (1.0 - contrast) * grey, pixels, bright * contrast * colours)
        return changed.round_().clamp_(0, 255).to(torch.uint8).reshape(batch_nhwc.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What happens to pairs of images: mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019).

    The teacher sees the mixed image too, so that distillation needs no mixed label.

    Attributes:
        mixup: α of the Beta distribution that the share of the first image is drawn from; 0: none.
        cutmix: Likewise for the share of the area. With both, every batch takes one of them at random.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def active(self) -> bool:
        """Whether anything is mixed at all."""
        return self.mixup > 0.0 or self.cutmix > 0.0

    def __call__(self, batch_nhwc: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        """Return mixed uint8 images, the partner of each (int64 [n]), and the share of the first."""
        partners = torch.randperm(len(batch_nhwc), generator=generator)
        other = batch_nhwc[partners.to(batch_nhwc.device)]
        cut = self.cutmix > 0.0 and (self.mixup == 0.0 or bool(torch.rand((), generator=generator) < 0.5))
        share = _beta(self.cutmix if cut else self.mixup, generator)
        if not cut:
            mixed = torch.lerp(other.float(), batch_nhwc.float(), share)
            return mixed.round_().to(torch.uint8), partners, share
        _, height, width, _ = batch_nhwc.shape
        tall, wide = round(height * math.sqrt(1.0 - share)), round(width * math.sqrt(1.0 - share))
        top = int(torch.randint(0, height - tall + 1, (), generator=generator))
        left = int(torch.randint(0, width - wide + 1, (), generator=generator))
        mixed = batch_nhwc.clone()
        mixed[:, top : top + tall, left : left + wide] = other[:, top : top + tall, left : left + wide]
        return mixed, partners, 1.0 - tall * wide / (height * width)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Return a draw from Beta(alpha, alpha) by Jöhnk's rejection: 1 and less is what mixing uses."""
    if alpha == 1.0:
        return float(torch.rand((), generator=generator))
    for _ in range(1000):
        first, second = (torch.rand(2, generator=generator, dtype=torch.float64) ** (1.0 / alpha)).tolist()
        if 0.0 < first + second <= 1.0:
            return float(first / (first + second))
    return 0.5
