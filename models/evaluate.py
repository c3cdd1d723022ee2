"""What a split network is worth, measured in torch: accuracy and bits of every operating point.

For progress and recipes. What a bundle is worth is measured on the exported files, by `isthmus eval`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.datasets import ImageSet

_BATCH = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """One operating point.

    Attributes:
        width_index, channels: The point.
        accuracy: Share of right answers, in [0, 1].
        agreement: Share of answers that are those of the uncut network, right or wrong, in [0, 1].
        entropy_bytes: Bytes per latent under the ideal static code of these very images: no header, and a
            little less than tables fitted on other images would need.
    """

    width_index: int
    channels: int
    accuracy: float
    agreement: float
    entropy_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Accuracy of the uncut network, of every point (by width, then channels), and of the exit per width."""

    teacher: float
    points: tuple[PointResult, ...]
    exits: tuple[float, ...]


def evaluate(network: SplitNetwork, images: ImageSet) -> Evaluation:
    """Measure the operating points of `network` on `images`.

    Raises:
        GateError: If a width was never calibrated.
    """
    network.eval()
    labels, device = torch.from_numpy(images.labels), next(network.parameters()).device
    with torch.no_grad():
        uncut = [network.teacher(network.normalise(part.to(device))).argmax(1) for part, _ in batches(images)]
    teacher = torch.cat(uncut).cpu()
    points: list[PointResult] = []
    exits: list[float] = []
    for width_index in range(len(network.config.widths)):
        codes = torch.cat([network.codes(batch.to(device), width_index) for batch, _ in batches(images)])
        channel_bytes = entropy_bytes(codes)
        for channels in network.config.channel_counts:
            logits = torch.cat([network.logits(part, channels) for part in torch.split(codes, _BATCH)])
            points.append(
                PointResult(
                    width_index=width_index,
                    channels=channels,
                    accuracy=_share(logits, labels),
                    agreement=_share(logits, teacher),
                    entropy_bytes=sum(channel_bytes[:channels]),
                )
            )
        if network.exit_head is not None:
            exit_logits = [network.exit_logits(part) for part in torch.split(codes, _BATCH)]
            exits.append(_share(torch.cat([part for part in exit_logits if part is not None]), labels))
    right = float((teacher == labels).double().mean())
    return Evaluation(teacher=right, points=tuple(points), exits=tuple(exits))


def entropy_bytes(codes_nchw: Tensor) -> list[float]:
    """Return the bytes per latent of each channel under its own ideal static code."""
    per_channel = []
    for channel in codes_nchw.transpose(0, 1).cpu().numpy():
        counts = np.bincount(channel.ravel(), minlength=256)
        shares = counts[counts > 0] / counts.sum()
        symbols = channel.size / len(codes_nchw)
        per_channel.append(float(-(shares * np.log2(shares)).sum() * symbols / 8))
    return per_channel


def batches(images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (uint8 [n, h, w, c], int64 [n]) in order."""
    for start in range(0, len(images), _BATCH):
        part = slice(start, start + _BATCH)
        yield torch.from_numpy(images.images[part]), torch.from_numpy(images.labels[part])


def _share(logits_nk: Tensor, labels: Tensor) -> float:
    return float((logits_nk.argmax(1).cpu() == labels).double().mean())
