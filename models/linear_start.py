"""Start projection and decoder as the best linear code of the teacher's features, instead of at random.

A reduced-rank regression from what the encoder's stages give to the features at the cut: its leading
directions become the latent's channels, in their order. Worth most after trained stages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.models.families.layers import SlimConv2d
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

    Narrower widths share the projection's weights; their own gain and bias fit them to the same code.

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
    moments = x.T @ x
    ridge = _RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=x.dtype)
    weights = torch.linalg.solve(moments + ridge, x.T @ y)
    variances, directions = torch.linalg.eigh((x @ weights).T @ (x @ weights) / len(x))
    channels = min(network.config.channels, len(variances))
    variances, directions = variances.flip(0)[:channels], directions.flip(1)[:, :channels]
    scale = variances[0].clamp_min(1e-12).rsqrt()
    code = scale * weights @ directions
    project.weight[:channels, : len(code), 0, 0] = code.T.float()
    network.encoder.gain.fill_(1.0)  # type: ignore[operator]
    network.encoder.bias[:, :channels] = -(centre @ code).float()  # type: ignore[operator]
    quantiser = network.quantiser
    assert isinstance(quantiser, LatentQuantiser)
    quantiser.log_scale.fill_(torch.tensor(_FIRST_STD).log().item())
    _start_decoder(first, last, directions / scale, goal)
    for width_index in range(widest):
        _fit_gain(network, pixels_nhwc, width_index, (x @ code)[:, :channels])
    network.train(was_training)
    return float(variances.sum() * len(y) / y.square().sum())


def _ends(network: SplitNetwork) -> tuple[SlimConv2d, nn.Conv2d, nn.Conv2d]:
    config, project = network.config, getattr(network.encoder, "project", None)
    layers = [layer for layer in network.decoder.modules() if isinstance(layer, nn.Conv2d)]
    if not isinstance(project, SlimConv2d) or not isinstance(network.quantiser, LatentQuantiser):
        raise InputError(f"linear_start: bottleneck {config.family!r} has no projection to fit; give 0")
    plane, room = (config.latent_height, config.latent_width), layers[0].out_channels
    if plane != tuple(config.cut_shape_chw[1:]) or 2 * config.channels > room:
        raise InputError(
            f"linear_start: the cut's plane {config.cut_shape_chw[1:]} must be the latent's {plane}, and the "
            f"decoder at least {2 * config.channels} channels wide; give 0"
        )
    return project, layers[0], layers[-1]


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


def _fit_gain(network: SplitNetwork, pixels_nhwc: Tensor, width_index: int, code: Tensor) -> None:
    """Give a narrower width the gain and bias per channel that bring its projection nearest to the code."""
    features, _ = _samples(network, pixels_nhwc, width_index)
    project = network.encoder.project
    assert isinstance(project, SlimConv2d)
    channels = code.shape[1]
    own = features @ project.sliced(width_index)[:channels, :, 0, 0].double().cpu().T
    spread = (own - own.mean(dim=0)).square().mean(dim=0).clamp_min(1e-12)
    gain = ((own - own.mean(dim=0)) * (code - code.mean(dim=0))).mean(dim=0) / spread
    bias = code.mean(dim=0) - gain * own.mean(dim=0)
    network.encoder.gain[width_index, :channels] = gain.float()  # type: ignore[operator]
    network.encoder.bias[width_index, :channels] = bias.float()  # type: ignore[operator]
