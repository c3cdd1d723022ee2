"""Teach the new layers before the copied ones to give what these are used to, before anything else.

A stem that replaces slow layers starts at random; until it gives what the copied layers were trained on,
they unlearn it. Pieces of images are enough for layers that see little of the plane, and make quick steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from isthmus.models.cutting import split_at
from isthmus.models.families.pruned import Layer, PrunedEncoder
from isthmus.models.split_network import SplitNetwork
from isthmus.models.teacher_layers import layer_named
from isthmus.models.teacher_start import orders_of

_BATCH, _ORDER_IMAGES = 12, 256
# The stem's first copied layers learn along: they meet the stem's mistakes.
_ALONG = 2
_PEAK, _WARM_UP, _LEAST = 4e-3, 100, 1e-4
_WIDEST_SHARE = 0.6
# Steps whose mean error is returned.
_SHOWN = 20
# Pieces are four sevenths of a side, as 128 of 224 pixels, in whole units that every stride divides.
_PIECE, _UNIT = 4 / 7, 32


def teach_stem(
    network: SplitNetwork,
    pixels_nhwc: Tensor,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> float | None:
    """Train the layers before the first copied one; return the error left, as a share of the variance.

    Args:
        network: Its encoder started from the teacher, on its device.
        pixels_nhwc: Training images uint8.
        steps: Of twelve pieces of images each.
        seed: Of pieces and widths.
        progress: Called after each step with the share (0..1) that is done.

    Returns:
        None if there is no such layer.
    """
    encoder = cast("PrunedEncoder", network.encoder)
    copied = [at for at, spec in enumerate(encoder.specs) if spec.source is not None]
    end, goal = _goal(network, encoder, copied)
    new = list(range(copied[0]))
    if not new:
        return None
    few = pixels_nhwc[:: max(1, len(pixels_nhwc) // _ORDER_IMAGES)]
    entering, leaving = orders_of(network, few)[copied[0]]
    order = leaving if end > copied[0] else entering
    generator = torch.Generator().manual_seed(seed)
    values = [value for layer in encoder.layers[:end] for value in layer.parameters()]
    optimiser = torch.optim.AdamW(values, lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4)
    device, last = next(network.parameters()).device, len(network.config.widths) - 1
    was_training, warm_up = network.training, max(1, min(_WARM_UP, steps // 10))
    errors: list[float] = []
    network.train()
    for step in range(steps):
        done = step / steps
        rate = _PEAK * min(1.0, (step + 1) / warm_up) * 0.5 * (1.0 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = max(rate, _LEAST)
        x_nchw = network.normalise(_pieces(pixels_nhwc, generator).to(device))
        widest = last == 0 or float(torch.rand((), generator=generator)) < _WIDEST_SHARE
        width_index = last if widest else int(torch.randint(0, last, (), generator=generator))
        loss = _error(encoder, x_nchw, width_index, end, goal(x_nchw), order)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        errors = [*errors[-_SHOWN:], float(loss.detach())]
        if progress is not None:
            progress((step + 1) / steps)
    network.train(was_training)
    return sum(errors) / len(errors)


def _goal(
    network: SplitNetwork, encoder: PrunedEncoder, copied: list[int]
) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Return the index behind the last layer that is taught, and a function that says what it should give."""
    end, until = copied[0], None
    for at in copied[:_ALONG]:
        layer = layer_named(network.teacher, str(encoder.specs[at].source))
        if layer is None or not layer.keeps_shape or at != end:
            break
        end, until = at + 1, layer.name
    first = layer_named(network.teacher, str(encoder.specs[copied[0]].source))
    assert first is not None
    head, _ = split_at(network.teacher, until or first.name)
    entry = first.pairs[0][0]

    @torch.no_grad()
    def goal(x_nchw: Tensor) -> Tensor:
        caught: list[Tensor] = []
        handle = entry.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        output: Tensor = head(x_nchw)
        handle.remove()
        return caught[0] if until is None else output

    return end, goal


def _error(
    encoder: PrunedEncoder, x_nchw: Tensor, width_index: int, end: int, wanted_nchw: Tensor, order: Tensor
) -> Tensor:
    left_out = encoder.skipped[width_index]
    for at in range(end):
        if at not in left_out:
            x_nchw = cast("Layer", encoder.layers[at])(x_nchw, width_index)
    wanted = wanted_nchw[:, order[: x_nchw.shape[1]].to(wanted_nchw.device)]
    variance = wanted.var(dim=(0, 2, 3)).clamp_min(1e-4)
    return ((x_nchw - wanted).square().mean(dim=(0, 2, 3)) / variance).mean()


def _pieces(pixels_nhwc: Tensor, generator: torch.Generator) -> Tensor:
    """Return pieces of random images, uint8 [n, h, w, c]; of small images, all of them."""
    images, height, width, _ = pixels_nhwc.shape
    tall, wide = (max(_UNIT, round(side * _PIECE / _UNIT) * _UNIT) for side in (height, width))
    tall, wide = min(tall, height), min(wide, width)
    chosen = torch.randint(0, images, (_BATCH,), generator=generator)
    tops = torch.randint(0, height - tall + 1, (_BATCH,), generator=generator)
    lefts = torch.randint(0, width - wide + 1, (_BATCH,), generator=generator)
    places = zip(chosen.tolist(), tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([pixels_nhwc[at, top : top + tall, left : left + wide] for at, top, left in places])
