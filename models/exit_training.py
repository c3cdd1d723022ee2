"""Train the early exit alone, on the finished latents of a calibrated encoder.

Cheap, because only the encoder runs forward: the teacher answers once per image, and that answer also serves
the augmented copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.models.augment import Augmentation
from isthmus.models.losses import distillation_loss
from isthmus.models.schedule import Schedule
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import GateError

_BATCH, _TEACHER_BATCH = 64, 250


def train_exit(
    network: SplitNetwork,
    pixels_nhwc: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    temperature: float,
    augmentation: Augmentation,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Train the exit of `network` in place; nothing else changes, and without an exit nothing happens.

    Every batch is encoded at one width, drawn at random: one exit serves all of them.

    Args:
        network: Calibrated.
        pixels_nhwc: Training images, uint8.
        epochs: Passes over them.
        learning_rate: Peak rate of AdamW.
        temperature: Softens the answers, as in `distillation_loss`.
        augmentation: Applied to every batch.
        seed: Of order, widths and augmentation.
        progress: Called after each step with its number from 1, their count and the loss.

    Raises:
        GateError: If the loss is not finite, or a width was never calibrated.
    """
    exit_head = network.exit_head
    if exit_head is None or epochs == 0:
        return
    network.eval()
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    answers = _answers(network, pixels_nhwc)
    optimiser = torch.optim.AdamW(exit_head.parameters(), lr=0.0, weight_decay=1e-2)
    schedule = Schedule(warm_up=0.05)
    size = min(_BATCH, len(pixels_nhwc))
    per_epoch = len(pixels_nhwc) // size
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(pixels_nhwc), generator=generator)
        chosen = order[step % per_epoch * size :][:size]
        width_index = int(torch.randint(0, len(network.config.widths), (1,), generator=generator))
        codes = network.codes(augmentation(pixels_nhwc[chosen], generator).to(device), width_index)
        levels = codes.float() - network.quantiser.zero_point
        logits = exit_head(network.quantiser.dequantised(levels).detach())
        loss = distillation_loss(logits, answers[chosen.to(device)], temperature).mean()
        if not math.isfinite(float(loss.detach())):
            raise GateError(f"step {step} of the early exit: the loss is {float(loss.detach())}")
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * schedule.rate(step / (epochs * per_epoch))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress is not None:
            progress(step + 1, epochs * per_epoch, float(loss.detach()))


@torch.no_grad()
def _answers(network: SplitNetwork, pixels_nhwc: Tensor) -> Tensor:
    device = next(network.parameters()).device
    batches = torch.split(pixels_nhwc, _TEACHER_BATCH)
    return torch.cat([network.teacher(network.normalise(batch.to(device))).float() for batch in batches])
