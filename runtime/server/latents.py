"""From what arrived to what the tail takes: latents of any channel count side by side in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import LatentSpec


def assemble(latents: Sequence[NDArray[np.uint8]], spec: LatentSpec) -> NDArray[np.uint8]:
    """Return one batch uint8 [rows, C, H, W] of latents uint8 [c, H, W], c ≤ C each.

    Absent channels get their zero point, the value that the tail dequantises to zero.
    """
    if len(latents) == 1 and len(latents[0]) == spec.channels:
        return np.ascontiguousarray(latents[0])[None]
    batch = np.empty((len(latents), spec.channels, spec.height, spec.width), np.uint8)
    zero_points: NDArray[np.uint8] | None = None
    for row, latent in zip(batch, latents, strict=True):
        sent = len(latent)
        row[:sent] = latent
        if sent < spec.channels:
            if zero_points is None:
                zero_points = np.array(spec.zero_points, np.uint8)[:, None, None]
            row[sent:] = zero_points[sent:]
    return batch
