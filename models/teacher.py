"""Train a small network from scratch on labels: the teacher of the embedded default."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.models.augment import Augmentation
from isthmus.models.backbones import make_model
from isthmus.models.design import normalisation
from isthmus.models.progress import TrainProgress
from isthmus.models.schedule import Schedule
from isthmus.models.split_network import Normalise
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import GateError


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """How a teacher is trained: AdamW, half a cosine, cross-entropy with label smoothing.

    Attributes:
        epochs, batch_size, learning_rate, weight_decay, smoothing, seed: As usual.
        augmentation: Applied to every batch.
        mean, std: Normalisation on pixels in [0, 1]; None for the usual one.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    smoothing: float = 0.05
    seed: int = 0
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(shift=2))
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def train_teacher(
    ref: str,
    images: ImageSet,
    settings: TeacherSettings | None = None,
    *,
    progress: Callable[[TrainProgress], None] | None = None,
) -> nn.Module:
    """Return the network `ref` trained on `images`, in evaluation mode; it takes normalised float NCHW.

    Raises:
        InputError: If `ref` names no network.
        GateError: If the loss is not finite.
    """
    settings = settings or TeacherSettings()
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    height, width, in_channels = images.shape_hwc
    module = make_model(ref, len(images.classes), in_channels, image_size=(height, width)).train()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    usual_mean, usual_std = normalisation(in_channels, ref)
    normalise = Normalise(settings.mean or usual_mean, settings.std or usual_std)
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.0, weight_decay=settings.weight_decay)
    pixels, labels = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    size = min(settings.batch_size, len(images))
    per_epoch = len(images) // size
    schedule, started = Schedule(warm_up=0.1), time.monotonic()
    for step in range(settings.epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(images), generator=generator)
        chosen = order[step % per_epoch * size :][:size]
        done = step / (settings.epochs * per_epoch)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule.rate(done)
        batch = settings.augmentation(pixels[chosen], generator)
        loss = _fit(module, optimiser, normalise(batch), labels[chosen], settings.smoothing, step)
        if progress is not None:
            progress(
                TrainProgress(
                    epoch=step // per_epoch,
                    epochs=settings.epochs,
                    step=step + 1,
                    fraction=(step + 1) / (settings.epochs * per_epoch),
                    elapsed_s=time.monotonic() - started,
                    terms={"loss": loss},
                )
            )
    return module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def _fit(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    x_nchw: Tensor,
    labels: Tensor,
    smoothing: float,
    step: int,
) -> float:
    logits = module(x_nchw.contiguous(memory_format=torch.channels_last))
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise GateError(f"step {step}: the teacher's loss is {value}; lower the learning rate")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return value
