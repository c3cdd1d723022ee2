"""Start projection and decoder as the best linear code of the teacher's features, instead of at random.

A reduced-rank regression from what the encoder's stages give to the features at the cut: its leading
directions become the latent's channels, in their order. Worth most after trained stages.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isthmus.models.families.layers import SlimConv2d
from isthmus.models.families.projection import PrivateProjection, SharedProjection
from isthmus.models.families.tokens import TokenEncoder
from isthmus.models.quantise import LatentQuantiser
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import InputError

_BATCH = 128
# Standard deviation of the first channel, in levels; the others follow their share of the variance.
_FIRST_STD = 4.0
# Random weights of the decoder's end are kept this small: its first answer is the regression's.
_HUSHED = 0.02
# Ridge, as a share of the mean variance of the regressors.
_RIDGE = 1e-4


@torch.no_grad()
def start_linearly(network: SplitNetwork, pixels_nhwc: Tensor) -> float:
    """Fit projection and decoder of a slimmable bottleneck on uint8 images; return the share it explains.

    Narrower widths are fitted to the same code: by a projection of their own, or by gain and bias where they
    share the widest's.

    Raises:
        InputError: If the bottleneck has no 1×1 projection, or its decoder another plane than its latent.
    """
    project, first, last = _ends(network)
    was_training = network.training
    network.train()
    widest = len(network.config.widths) - 1
    features, wanted = _samples(network, pixels_nhwc, widest)
    centre, goal = features.mean(dim=0), wanted.mean(dim=0)
    x, y = features - centre, wanted - goal
    weights = regression(x, y)
    variances, directions = torch.linalg.eigh((x @ weights).T @ (x @ weights) / len(x))
    channels = min(network.config.channels, len(variances))
    variances, directions = variances.flip(0)[:channels], directions.flip(1)[:, :channels]
    scale = variances[0].clamp_min(1e-12).rsqrt()
    code = scale * weights @ directions
    project.set_widest(code, -(centre @ code))
    quantiser = network.quantiser
    assert isinstance(quantiser, LatentQuantiser)
    quantiser.log_scale.fill_(torch.tensor(_FIRST_STD).log().item())
    _start_decoder(first, last, directions / scale, goal)
    for width_index in range(widest):
        own, _ = _samples(network, pixels_nhwc, width_index)
        project.fit(width_index, own, x @ code)
    network.train(was_training)
    return float(variances.sum() * len(y) / y.square().sum())


class _Projection:
    """The last convolution of an encoder, whichever way its widths share it."""

    def __init__(self, layer: nn.Module, gain: Tensor | None, bias: Tensor | None) -> None:
        self.layer, self._gain, self._bias = layer, gain, bias

    def set_widest(self, code: Tensor, bias: Tensor) -> None:
        """Set the weights [features, channels] and the bias of the widest."""
        channels = code.shape[1]
        own = self._own(-1)
        own.weight[:channels, : len(code), 0, 0] = code.T.float()
        if self._gain is not None and self._bias is not None:
            self._gain.fill_(1.0)
            self._bias[:, :channels] = bias.float()
        elif own.bias is not None:
            own.bias[:channels] = bias.float()

    def fit(self, width_index: int, features: Tensor, code: Tensor) -> None:
        """Bring a narrower width's projection of `features` as near to `code` as it can be brought."""
        channels, mean = code.shape[1], code.mean(dim=0)
        own = self._own(width_index)
        if self._gain is None or self._bias is None:
            weights = regression(features - features.mean(dim=0), code - mean)
            own.weight[:channels, :, 0, 0] = weights.T.float()
            own.bias[:channels] = (mean - features.mean(dim=0) @ weights).float()
            return
        found = features @ own.weight[:channels, : features.shape[1], 0, 0].double().cpu().T
        away = found - found.mean(dim=0)
        gain = (away * (code - mean)).mean(dim=0) / away.square().mean(dim=0).clamp_min(1e-12)
        self._gain[width_index, :channels] = gain.float()
        self._bias[width_index, :channels] = (mean - gain * found.mean(dim=0)).float()

    def _own(self, width_index: int) -> Any:
        return self.layer[width_index] if isinstance(self.layer, PrivateProjection) else self.layer


def regression(x: Tensor, y: Tensor) -> Tensor:
    """Return the weights [a, b] by which centred `x` [n, a] comes nearest to centred `y` [n, b]."""
    moments = x.T @ x
    ridge = _RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=x.dtype, device=x.device)
    weights: Tensor = torch.linalg.solve(moments + ridge, x.T @ y)
    return weights


def check_linear(network: SplitNetwork) -> None:
    """Refuse a bottleneck that cannot start linearly.

    Raises:
        InputError: If it has no 1×1 projection, or its decoder another plane than its latent.
    """
    _ends(network)


def _ends(network: SplitNetwork) -> tuple[_Projection, nn.Conv2d, nn.Conv2d]:
    config, project = network.config, getattr(network.encoder, "project", None)
    layers = [layer for layer in network.decoder.modules() if isinstance(layer, nn.Conv2d)]
    encoder: Any = network.encoder
    found = None
    if isinstance(project, PrivateProjection):
        found = _Projection(project, None, None)
    elif isinstance(project, SharedProjection):
        found = _Projection(project.conv, project.gain, project.bias)
    elif isinstance(project, SlimConv2d) and not isinstance(encoder, TokenEncoder):  # its class tokens alone
        found = _Projection(project, encoder.gain, encoder.bias)
    if found is None or not isinstance(network.quantiser, LatentQuantiser):
        raise InputError(f"linear_start: bottleneck {config.family!r} has no projection to fit; give 0")
    plane, room = (config.latent_height, config.latent_width), layers[0].out_channels
    if plane != tuple(config.cut_shape_chw[1:]) or 2 * config.channels > room:
        raise InputError(
            f"linear_start: the cut's plane {config.cut_shape_chw[1:]} must be the latent's {plane}, and the "
            f"decoder at least {2 * config.channels} channels wide; give 0"
        )
    return found, layers[0], layers[-1]


def _samples(network: SplitNetwork, pixels_nhwc: Tensor, width_index: int) -> tuple[Tensor, Tensor]:
    """Return the stages' features and the teacher's at the cut, one row per place, in double precision."""
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    caught: list[Tensor] = []
    project = network.encoder.project
    assert isinstance(project, nn.Module)
    handle = project.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
    device = next(network.parameters()).device
    for batch in torch.split(pixels_nhwc, _BATCH):
        x_nchw = network.normalise(batch.to(device))
        network.encoder(x_nchw, width_index)
        for kept, part in zip(rows, (caught.pop(), network.teacher_head(x_nchw)), strict=True):
            kept.append(part.permute(0, 2, 3, 1).flatten(0, 2).double().cpu())
    handle.remove()
    return torch.cat(rows[0]), torch.cat(rows[1])


def _start_decoder(first: nn.Conv2d, last: nn.Conv2d, back: Tensor, goal: Tensor) -> None:
    """Let the decoder pass the code on in its positive and negative parts, and end in the regression."""
    channels = back.shape[1]
    assert first.bias is not None
    assert last.bias is not None
    first.weight[: 2 * channels] = 0.0
    first.bias[: 2 * channels] = 0.0
    middle = (first.kernel_size[0] // 2, first.kernel_size[1] // 2)
    for channel in range(channels):
        first.weight[channel, channel, middle[0], middle[1]] = 1.0
        first.weight[channels + channel, channel, middle[0], middle[1]] = -1.0
    middle = (last.kernel_size[0] // 2, last.kernel_size[1] // 2)
    last.weight.mul_(_HUSHED)
    last.weight[:, : 2 * channels] = 0.0
    last.weight[:, :channels, middle[0], middle[1]] = back.float()
    last.weight[:, channels : 2 * channels, middle[0], middle[1]] = -back.float()
    last.bias.copy_(goal)
