"""Which images a step sees: the order of every epoch, and the batches on the device that trains.

The order depends on the seed and the epoch alone, so that an epoch can be taken up in its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.models.settings import TrainSettings
from isthmus.models.views import AugmentedViews
from isthmus.runtime.datasets import ImageSet

# Images up to this size are kept on an accelerator as a whole.
_RESIDENT_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's images.

    Attributes:
        images: uint8 [n, h, w, c], augmented only if `recall` is given.
        labels: int64 [n], or None where labels play no part.
        recall: Gives the teacher's first so many targets for these very images, if they are kept.
    """

    images: Tensor
    labels: Tensor | None
    recall: Callable[[int], list[Tensor]] | None


class Feed:
    """The training images in the order of their epochs."""

    def __init__(
        self, images: ImageSet, settings: TrainSettings, device: torch.device, views: AugmentedViews | None
    ) -> None:
        """Take the images, or the views of them that were drawn once."""
        self._pixels, self._views, self._device = torch.from_numpy(images.images), views, device
        self._labels = torch.from_numpy(images.labels) if settings.label_weight else None
        self._settings = settings
        self.size = min(settings.batch_size, len(images))
        self.steps = len(images) // self.size
        if device.type != "cpu" and views is None and images.images.nbytes <= _RESIDENT_BYTES:
            self._pixels = self._pixels.to(device)

    def order(self, epoch: int) -> Tensor:
        """Return the indices of the images in the order of `epoch`, from 0."""
        generator = torch.Generator().manual_seed((self._settings.seed << 20) + epoch + 1)
        return torch.randperm(len(self._pixels), generator=generator)

    def batch(self, epoch: int, order: Tensor, step: int) -> Batch:
        """Return the batch of `step` of `epoch`, whose order is `order`."""
        chosen = order[step * self.size :][: self.size]
        labels = None if self._labels is None else self._labels[chosen]
        if self._views is None:
            images = self._pixels[chosen.to(self._pixels.device)]
            return Batch(images=self._ready(images), labels=labels, recall=None)
        view = epoch % self._settings.views
        images = self._ready(self._views.pixels(view, chosen))
        return Batch(images=images, labels=labels, recall=self._views.recall(view, chosen, self._device))

    def _ready(self, images: Tensor) -> Tensor:
        # Pinned memory lets the copy overlap the step before.
        pin = self._device.type == "cuda" and images.device.type == "cpu"
        return images.pin_memory() if pin else images
