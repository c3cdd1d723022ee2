"""Weights that no training made, with which a network still answers differently to different images.

Freshly initialised, many networks answer about zero to everything: gates start half closed, heads start
small, and BatchNorm assumes statistics that its input does not have; a comparison on such a network proves
nothing. The same network, shape and seed give the same weights on one machine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.runtime.errors import InputError

_IMAGES = 16
# A channel that hardly varied on a few images may vary on others; its norm must not blow that up.
_LEAST_VARIANCE = 0.1
# A rectifier that cuts off half of its input, and a norm behind it, let a rounding error grow at every layer:
# ResNet-101 would answer with three right digits. Behind a shifted norm most units pass, and five are right.
_NORM_SHIFT = 0.75
_Norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def randomise(network: nn.Module, shape_chw: tuple[int, int, int], *, seed: int = 0) -> None:
    """Give `network` random weights, in place; its logits get mean 0 and deviation 1 over random images.

    Matrices and kernels are drawn so that they keep the variance; norms and biases at random.
    BatchNorm statistics are then measured, and the last layer is scaled and shifted, on images of noise at
    several scales.

    Args:
        network: Put into evaluation mode.
        shape_chw: Of the images that it takes.
        seed: Of weights and images.

    Raises:
        InputError: If the answer to different images stays the same.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            _draw(module, generator)
        images = noise_images(_IMAGES, shape_chw, generator)
        _calibrate(network, images)
        _spread_logits(network, images)


def noise_images(count: int, shape_chw: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Return float images [count, c, h, w] of about mean 0 and deviation 1, from smooth to white noise.

    White noise alone averages out in a network's last pooling, so all images of it look alike there; a
    network calibrated on smooth images alone answers noise with huge numbers.
    """
    channels, height, width = shape_chw
    smooth = torch.zeros(count, channels, height, width)
    for cells in (1, 4, 16):
        coarse = torch.randn(count, channels, cells, cells, generator=generator)
        smooth += F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    white = torch.randn(smooth.shape, generator=generator)
    angle = torch.linspace(0, torch.pi / 2, count)[:, None, None, None]
    return angle.cos() * smooth / smooth.std() + angle.sin() * white


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the parameters that `module` itself holds."""
    is_norm = isinstance(module, (*_Norm, nn.LayerNorm, nn.GroupNorm))
    for name, parameter in module.named_parameters(recurse=False):
        if is_norm and name == "weight":
            parameter.uniform_(0.7, 1.3, generator=generator)
        elif parameter.dim() == 1:
            shift = _NORM_SHIFT if isinstance(module, _Norm) else 0.0
            parameter.normal_(shift, 0.1, generator=generator)
        elif parameter.dim() == 2 or isinstance(module, nn.Conv2d):
            inputs = parameter[0].numel()
            # A rectifier halves the variance; where none follows, a norm or the last step sets the scale.
            gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
            parameter.normal_(0, (gain / inputs) ** 0.5, generator=generator)
        else:  # embeddings of positions and classes, beside tokens of deviation about 1
            parameter.normal_(0, 0.5, generator=generator)


def _calibrate(network: nn.Module, images_nchw: Tensor) -> None:
    """Set the statistics of every BatchNorm to those of its input, from the first to the last."""
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, _Norm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # the mean over all batches, here one
    network(images_nchw)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        assert norm.running_var is not None
        norm.running_var.clamp_(min=_LEAST_VARIANCE * float(norm.running_var.mean()))


def _spread_logits(network: nn.Module, images_nchw: Tensor) -> None:
    """Scale and shift the layer that ran last so that its outputs have mean 0 and deviation 1 over images."""
    seen: list[tuple[nn.Linear | nn.Conv2d, Tensor]] = []

    def remember(module: nn.Module, _inputs: object, output: Tensor) -> None:
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        seen.append((module, output))

    layers = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    handles = [layer.register_forward_hook(remember) for layer in layers]
    try:
        network(images_nchw)
    finally:
        for handle in handles:
            handle.remove()
    name = type(network).__name__
    if not seen:
        raise InputError(f"{name}: has no linear layer or convolution to draw weights for")
    last, output = seen[-1]
    axes = [axis for axis in range(output.dim()) if axis != (output.dim() - 1 if output.dim() < 4 else 1)]
    mean, deviation = output.mean(axes), output.std(axes)
    if not bool((deviation > 1e-6 * output.abs().max()).all()):
        raise InputError(f"{name}: its last layer answers alike to different images")
    last.weight.div_(deviation.reshape(-1, *[1] * (last.weight.dim() - 1)))
    if last.bias is not None:
        last.bias.sub_(mean).div_(deviation)
