"""The optimisers of a training, with their parameter groups; every group knows its peak learning rate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from isthmus.models.rate import LatentPrior
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork

# The exit is small, starts late and bends nothing else: its learning rate is this many times the encoder's.
EXIT_SPEED = 3.0
# The prior only follows the latents, it may do so quickly.
_PRIOR_SPEED = 5.0


def make_optimiser(
    network: SplitNetwork,
    prior: LatentPrior,
    settings: TrainSettings,
    *,
    answers: bool,
    started: Collection[str] = (),
) -> torch.optim.Optimizer:
    """Return the optimiser of stage 2 (`answers`) or of stage 1; no decay on biases and gains (US-Nets).

    Every group has its `peak` rate, and whether it `rests` at first: what does not start from random numbers.
    """
    known = {id(value) for name, value in network.named_parameters() if name in started}
    kind = (settings.answer_optimiser if answers else None) or settings.optimiser
    rate = settings.learning_rate
    if answers and settings.answer_learning_rate is not None:
        rate = settings.answer_learning_rate
    decay = settings.weight_decay
    if answers and settings.answer_weight_decay is not None:
        decay = settings.answer_weight_decay
    parts: tuple[nn.Module, ...] = (network.encoder, network.quantiser, network.decoder)
    own = [named for part in parts for named in part.named_parameters() if named[1].requires_grad]
    early_exit = [] if network.exit_head is None else list(network.exit_head.named_parameters())
    tail = list(network.tail.named_parameters()) if network.config.tail_tuned else []
    groups: list[dict[str, Any]] = []
    for named, peak in ((own, rate), (early_exit, EXIT_SPEED * rate), (tail, settings.tail_learning_rate)):
        for rests in (False, True):
            part = [(name, value) for name, value in named if (id(value) in known) is rests]
            decayed = [value for name, value in part if _is_decayed(name, value)]
            plain = [value for name, value in part if not _is_decayed(name, value)]
            course = {"peak": peak * (settings.start_rate if rests else 1.0), "rests": rests or named is tail}
            groups.append({"params": decayed, "weight_decay": decay, **course})
            groups.append({"params": plain, "weight_decay": 0.0, **course})
    priors = [value for value in prior.parameters() if value.requires_grad]
    groups.append({"params": priors, "weight_decay": 0.0, "peak": _PRIOR_SPEED * rate, "rests": False})
    groups = [group for group in groups if group["params"]]
    # Fused: one pass over the parameters instead of one per operation.
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, fused=True)
    if kind == "adam":
        return torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.999), fused=True)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), fused=True)


def _is_decayed(name: str, value: torch.Tensor) -> bool:
    # The affine of a norm may be a matrix: a row per width.
    norm = name.split(".")[-2:-1] and name.split(".")[-2].startswith("norm")
    return name.endswith("weight") and value.ndim > 1 and not norm
