"""Gates between torch and the exported files: nothing that differs, or answers nothing, is shipped.

A head ends in a rounding, so the two engines may differ by one level where a value lies on the edge between
two. A comparison proves nothing if both sides are constant, hence outputs that do not vary with the image
are refused too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.runtime.bundle.networks import Network
from isthmus.runtime.errors import GateError

_MAX_LEVELS = 1
_MAX_SHARE = 1e-3
_TOLERANCE = 1e-3


def check_latents(module: nn.Module, network: Network, images_nhwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the exported head's latents of `images_nhwc`, after comparing them with the torch head's.

    Raises:
        GateError: If more than 0.1 % of the symbols differ, one by more than a level, or all images give
            one latent.
    """
    expected, latents = _run_torch(module, images_nhwc), network.run(images_nhwc)
    if latents.shape != expected.shape or latents.dtype != np.uint8:
        raise GateError(
            f"{network.name}: gives {latents.dtype} {latents.shape}, torch uint8 {expected.shape}"
        )
    levels = np.abs(latents.astype(np.int16) - expected.astype(np.int16))
    share = float((levels > 0).mean())
    if levels.max() > _MAX_LEVELS or share > _MAX_SHARE:
        raise GateError(
            f"{network.name}: {share:.2%} of the symbols differ from torch, by up to {levels.max()} levels "
            f"(allowed: {_MAX_SHARE:.1%} by {_MAX_LEVELS}); the export went wrong, report this"
        )
    _check_varies(network.name, latents)
    return latents


def check_logits(module: nn.Module, network: Network, inputs: NDArray[np.uint8]) -> None:
    """Compare the exported tail, exit or whole network with the torch one on `inputs`.

    Raises:
        GateError: If they differ by more than 0.1 % of the largest logit, or do not vary.
    """
    expected, logits = _run_torch(module, inputs), network.run(inputs)
    if logits.shape != expected.shape or not np.isfinite(expected).all():
        raise GateError(
            f"{network.name}: gives {logits.shape}, torch {expected.shape}, finite numbers expected"
        )
    error = float(np.abs(logits - expected).max() / max(float(np.abs(expected).max()), 1e-6))
    if not error <= _TOLERANCE:
        raise GateError(
            f"{network.name}: logits differ from torch by {error:.2g} of their range "
            f"(allowed: {_TOLERANCE}); the export went wrong, report this"
        )
    _check_varies(network.name, logits)


def _run_torch(module: nn.Module, inputs: NDArray[np.uint8]) -> NDArray[Any]:
    with torch.no_grad():
        output: torch.Tensor = module(torch.from_numpy(inputs))
    return output.numpy()


def _check_varies(name: str, outputs: NDArray[Any]) -> None:
    spread = np.ptp(outputs.astype(np.float64), axis=0).max()
    if not spread > 1e-6 * max(float(np.abs(outputs).max()), 1e-6):
        raise GateError(f"{name}: answers every one of {len(outputs)} images alike; train the network first")
