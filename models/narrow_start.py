"""Let the narrower widths begin where the widest is, when delayed shrinking lets them in.

What is private to a width has stood still while the widest alone was trained: its projection would give
latents of another scale, whose bits are priced away before they can learn.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from isthmus.models.families.layers import SlimBatchNorm2d
from isthmus.models.families.projection import PrivateProjection, SharedProjection
from isthmus.models.families.slim_encoder import SlimEncoder
from isthmus.models.families.tokens import TokenEncoder
from isthmus.models.linear_start import regression
from isthmus.models.rate import LatentPrior
from isthmus.models.split_network import SplitNetwork


@torch.no_grad()
def start_narrower(network: SplitNetwork, prior: LatentPrior, images_nhwc: Tensor) -> None:
    """Copy what is private to the widest to the other widths, in place.

    A projection of another shape cannot be copied: it is fitted to the widest's latent of `images_nhwc`.

    Args:
        network: In training mode, on its device.
        prior: Of the rate term.
        images_nhwc: Some uint8 images, as they are trained on.
    """
    for module in network.encoder.modules():
        if isinstance(module, SlimBatchNorm2d) and module.private:
            _spread(module.weight, module.bias)
        elif isinstance(module, SlimEncoder | SharedProjection) or (
            isinstance(module, TokenEncoder) and module.plane[0]
        ):
            _spread(module.gain, module.bias)
    _spread(prior.location, prior.log_spread)
    project = getattr(network.encoder, "project", None)
    if isinstance(project, PrivateProjection):
        _fit(network, project, network.normalise(images_nhwc))


def _spread(*rows: Tensor) -> None:
    for values in rows:
        values[:-1] = values[-1].clone()


def _fit(network: SplitNetwork, project: PrivateProjection, x_nchw: Tensor) -> None:
    caught: list[Tensor] = []
    handle = project.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    last = len(project) - 1
    goal = _rows(network.encoder(x_nchw, last))
    caught.clear()
    for width_index in range(last):
        network.encoder(x_nchw, width_index)
        features = _rows(caught.pop())
        centre, mean = features.mean(dim=0), goal.mean(dim=0)
        weights = regression(features - centre, goal - mean)
        own = cast("nn.Conv2d", project[width_index])
        assert own.bias is not None
        own.weight.copy_(weights.T[:, :, None, None])
        own.bias.copy_(mean - centre @ weights)
    handle.remove()


def _rows(x_nchw: Tensor) -> Tensor:
    """Return one row per place, in double precision."""
    return x_nchw.permute(0, 2, 3, 1).flatten(0, 2).double()
