"""Gates between torch and the exported files: nothing that differs, or answers nothing, is shipped.

A head ends in a rounding: the two engines may differ by one level, in few symbols, and only where torch's
real value lies so close to the edge between two levels that an error of 1e-4 leads across it. Logits may
differ by 1e-4 of the largest. A comparison proves nothing if both sides are constant, hence outputs that do
not vary with the image are refused too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.models.quantise import Quantise
from isthmus.runtime.bundle.networks import Network
from isthmus.runtime.errors import GateError

_MAX_SHARE = 1e-3
# Of real values; relative to the largest where there is no natural unit.
_TOLERANCE = 1e-4


def check_latents(module: nn.Module, network: Network, images_nhwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the exported head's latents of `images_nhwc`, after comparing them with the torch head's.

    Raises:
        GateError: If more than 0.1 % of the symbols differ, one by more than a level or where torch's value
            is not at an edge between two, or if all images give one latent.
    """
    expected, latents = _run_torch(module, images_nhwc), network.run(images_nhwc)
    if latents.shape != expected.shape or latents.dtype != np.uint8:
        raise GateError(
            f"{network.name}: gives {latents.dtype} {latents.shape}, torch uint8 {expected.shape}"
        )
    levels = np.abs(latents.astype(np.int16) - expected.astype(np.int16))
    share, step = float((levels > 0).mean()), _step(module)
    if levels.max() > step or share > _MAX_SHARE:
        raise GateError(
            f"{network.name}: {share:.2%} of the symbols differ from torch, by up to {levels.max()} levels "
            f"(allowed: {_MAX_SHARE:.1%} by {step}); the export went wrong, report this"
        )
    distance = _beyond_edge(module, images_nhwc)
    if distance is not None and (levels > 0).any() and not float(distance[levels > 0].max()) <= 0:
        raise GateError(
            f"{network.name}: a symbol differs from torch where its real value is more than {_TOLERANCE:g} "
            "from the edge between two levels; the export went wrong, report this"
        )
    _check_varies(network.name, latents)
    return latents


def _step(module: nn.Module) -> int:
    """Return how many levels lie between neighbouring codes of a head."""
    last = module[-1] if isinstance(module, nn.Sequential) and len(module) else module
    return int(getattr(last, "step", 1))


def _beyond_edge(module: nn.Module, images_nhwc: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return how far each real value is from the edge between two levels, less what is allowed.

    None where the module does not end in a uniform quantiser.
    """
    if not (isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[-1], Quantise)):
        return None
    scale = module[-1].scale.numpy()
    reals = _run_torch(module[:-1], images_nhwc)
    levels = reals * scale
    from_edge = np.abs(levels - np.floor(levels) - 0.5)
    distance: NDArray[Any] = from_edge - scale * _TOLERANCE * np.maximum(np.abs(reals), 1)
    return distance


def check_logits(module: nn.Module, network: Network, inputs: NDArray[np.uint8]) -> None:
    """Compare the exported tail, exit or whole network with the torch one on `inputs`.

    Raises:
        GateError: If they differ by more than 0.01 % of the largest logit, or do not vary.
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
