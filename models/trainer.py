"""One training run of a bottleneck, step by step: the losses, the optimiser, and the state that resumes it.

Knows nothing of files, consoles and clocks: progress is an argument, results are returned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from isthmus.models.augment import Augmentation
from isthmus.models.losses import distillation_loss, feature_loss
from isthmus.models.quantise import prefix_mask
from isthmus.models.rate import LatentPrior, RatePrice
from isthmus.models.schedule import Schedule, batch_slices, sample_counts
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import GateError

_MAX_GRADIENT_NORM = 5.0
# The exit is small, starts late and bends nothing else: its learning rate is this many times the encoder's.
EXIT_SPEED = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a bottleneck is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step, shared by the widths of the step.
        learning_rate, tail_learning_rate: Peak rates of AdamW for the bottleneck and for a tuned tail.
        weight_decay: On convolution and linear weights only.
        temperature: Softens the teacher's answer.
        feature_weight, answer_weight: Weights of the losses in stage 2; in stage 1 there are features only,
            with weight 1. Answers come in small: their gradient undoes features that took an epoch to learn.
        target_bits: Mean bits of a whole latent that the rate price steers to; None keeps the price.
        rate_price: First (or fixed) price, in loss per bit; 0 with no target trains without a rate term.
        schedule: Stages and delayed shrinking.
        augmentation: Applied to every batch.
        precision: bfloat16 runs convolutions under autocast: twice as fast where the CPU has AVX-512 BF16.
        exit_epochs: Passes that train the early exit alone, after everything else is finished.
        seed: Of everything random.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    tail_learning_rate: float = 3e-5
    weight_decay: float = 1e-4
    temperature: float = 2.0
    feature_weight: float = 1.0
    answer_weight: float = 0.25
    target_bits: float | None = None
    rate_price: float = 1e-5
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Literal["float32", "bfloat16"] = "float32"
    exit_epochs: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step measured: loss terms by name, estimated bits per image of its widest width."""

    terms: Mapping[str, float]
    bits: float


class BottleneckTrainer:
    """Trains the bottleneck of a `SplitNetwork` in place."""

    def __init__(self, network: SplitNetwork, settings: TrainSettings) -> None:
        """Take the network, whose teacher stays as it is, and the settings."""
        self.network, self.settings = network, settings
        config = network.config
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.prior = LatentPrior(len(config.widths), config.channels)
        self.price = RatePrice([settings.rate_price] * len(config.widths), settings.target_bits)
        self.optimiser = _optimiser(network, self.prior, settings)
        self.steps = 0

    def step(self, batch_nhwc: Tensor, progress: float) -> StepResult:
        """Take one optimiser step on uint8 images [n, h, w, c] at `progress` ∈ [0, 1].

        Raises:
            GateError: If a loss term or a gradient is not finite; the parameters are then as before the step.
        """
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.settings.schedule.rate(progress)
        x_nchw = self.network.normalise(self.settings.augmentation(batch_nhwc, self.generator))
        x_nchw = x_nchw.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            terms, bits = self._terms(x_nchw, progress)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self._check(terms)
        self.optimiser.step()
        self.steps += 1
        return StepResult(terms={name: float(term.detach()) for name, term in terms.items()}, bits=bits)

    def state(self) -> dict[str, Any]:
        """Return everything beside the network's parameters that a resumed run needs."""
        return {
            "prior": self.prior.state_dict(),
            "prices": list(self.price.prices),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.prior.load_state_dict(state["prior"])
        self.price.prices = [float(price) for price in state["prices"]]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])

    def _terms(self, x_nchw: Tensor, progress: float) -> tuple[dict[str, Tensor], float]:
        answers = self.settings.schedule.answers(progress)
        targets = self._teacher(x_nchw, answers)
        levels, rate, bits = self._encode(x_nchw, progress)
        counts = sample_counts(len(x_nchw), self.network.config.channel_counts, self.generator)
        mask = prefix_mask(counts, self.network.config.channels)
        quantiser = self.network.quantiser
        rounded = quantiser.rounded(levels)
        outputs = [self.network.decoder(quantiser.dequantised(rounded * mask))]
        for segment in list(self.network.tail)[: len(targets) - 1]:
            outputs.append(segment(outputs[-1]))
        weight = self.settings.feature_weight if answers else 1.0
        terms = {"rate": (rate * mask[:, :, 0, 0]).sum() / len(x_nchw)}
        pairs = list(zip(outputs, targets, strict=True))
        if answers:
            student_nk, teacher_nk = pairs.pop()
            answer = distillation_loss(student_nk, teacher_nk, self.settings.temperature)
            terms["answer"] = self.settings.answer_weight * answer
            if self.network.exit_head is not None:
                # Detached: an early exit must not bend the latent that the tail needs.
                exit_nk = self.network.exit_head(quantiser.dequantised(rounded).detach())
                terms["exit"] = distillation_loss(exit_nk, teacher_nk, self.settings.temperature)
        for index, (student, teacher) in enumerate(pairs):
            terms[f"features{index}"] = weight * feature_loss(student, teacher)
        return terms, bits

    @torch.no_grad()
    def _teacher(self, x_nchw: Tensor, answers: bool) -> list[Tensor]:
        """Return the teacher's features at the cut and the next level or, for stage 2, through the logits."""
        targets = [self.network.teacher_head(x_nchw)]
        segments = list(self.network.teacher_tail)
        for segment in segments if answers else segments[:-1][:1]:
            targets.append(segment(targets[-1]))
        return targets

    def _encode(self, x_nchw: Tensor, progress: float) -> tuple[Tensor, Tensor, float]:
        """Return levels [n, C, h, w] of the step's widths, priced rate [n, C], the widest width's bits."""
        shares = self.settings.schedule.shares(progress, len(self.network.config.widths), self.generator)
        levels, rates, widest = [], [], 0.0
        for position, (width_index, part) in enumerate(batch_slices(shares, len(x_nchw))):
            part_levels = self.network.quantiser.levels(self.network.encoder(x_nchw[part], width_index))
            # Uniform noise stands for rounding in the estimate, where rounding has no gradient (Ballé).
            noise = torch.rand(part_levels.shape, generator=self.generator) - 0.5
            bits = self.prior.bits(part_levels + noise, width_index)
            mean = float(bits.detach().sum(dim=1).mean())
            widest = mean if position == 0 else widest
            rates.append(self.price.prices[width_index] * bits)
            self.price.update(width_index, mean)
            levels.append(part_levels)
        return torch.cat(levels), torch.cat(rates), widest

    def _exit_parameters(self) -> list[nn.Parameter]:
        return [] if self.network.exit_head is None else list(self.network.exit_head.parameters())

    def _check(self, terms: Mapping[str, Tensor]) -> None:
        for name, term in terms.items():
            if not math.isfinite(float(term.detach())):
                raise GateError(
                    f"step {self.steps}: loss term '{name}' is {float(term.detach())}; lower --learning-rate"
                )
        # The exit is clipped by itself: its first, large gradients would shrink all the others.
        apart = {id(value) for value in self._exit_parameters()}
        everything = [value for group in self.optimiser.param_groups for value in group["params"]]
        shared = [value for value in everything if id(value) not in apart]
        norms = [
            float(nn.utils.clip_grad_norm_(values, _MAX_GRADIENT_NORM))
            for values in (shared, self._exit_parameters())
        ]
        if not all(math.isfinite(norm) for norm in norms):
            named = [*self.network.named_parameters(), *self.prior.named_parameters()]
            bad = next(
                name
                for name, value in named
                if value.grad is not None and not bool(value.grad.isfinite().all())
            )
            raise GateError(
                f"step {self.steps}: the gradient of '{bad}' is not finite; lower --learning-rate"
            )


def _optimiser(network: SplitNetwork, prior: LatentPrior, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW with a peak rate per group; no decay on biases, affines and gains (US-Nets)."""
    parts: tuple[nn.Module, ...] = (network.encoder, network.quantiser, network.decoder)
    own = [named for part in parts for named in part.named_parameters()]
    early_exit = [] if network.exit_head is None else list(network.exit_head.named_parameters())
    groups: list[dict[str, Any]] = []
    tail = list(network.tail.named_parameters()) if network.config.tail_tuned else []
    rate = settings.learning_rate
    for named, peak in ((own, rate), (early_exit, EXIT_SPEED * rate), (tail, settings.tail_learning_rate)):
        decayed = [value for name, value in named if _is_decayed(name, value)]
        plain = [value for name, value in named if not _is_decayed(name, value)]
        groups.append({"params": decayed, "peak": peak, "weight_decay": settings.weight_decay})
        groups.append({"params": plain, "peak": peak, "weight_decay": 0.0})
    # The prior only follows the latents, it may do so quickly.
    groups.append(
        {"params": list(prior.parameters()), "peak": 5 * settings.learning_rate, "weight_decay": 0.0}
    )
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=(0.9, 0.99))


def _is_decayed(name: str, value: Tensor) -> bool:
    return name.endswith("weight") and value.ndim > 1
