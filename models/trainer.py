"""One training run of a bottleneck, step by step: the losses, the optimiser, and the state that resumes it.

Knows nothing of files, consoles and clocks: progress is an argument, results are returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.models.averaging import WeightAverage
from isthmus.models.finite import first_gradient, first_tensor
from isthmus.models.narrow_start import start_narrower
from isthmus.models.objective import Objective
from isthmus.models.optimisers import make_optimiser
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import GateError

__all__ = ["BottleneckTrainer", "StepResult", "TrainSettings"]

_REMEDY = "lower --learning-rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step measured.

    Attributes:
        terms: Loss terms by name.
        bits: Estimated bits of a whole latent, by index of the widths of the step; empty without a rate term.
        learning_rate: Of the bottleneck, in this step.
    """

    terms: Mapping[str, float]
    bits: Mapping[int, float]
    learning_rate: float


class BottleneckTrainer:
    """Trains the bottleneck of a `SplitNetwork` in place, on the device the network is on."""

    def __init__(
        self, network: SplitNetwork, settings: TrainSettings, *, started: Collection[str] = ()
    ) -> None:
        """Take the network, whose teacher stays as it is, the settings, and names of tensors not random."""
        self.network, self.settings, self._started = network, settings, frozenset(started)
        self.device = next(network.parameters()).device
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.objective = Objective(network, settings, self.generator)
        self.prior, self.price = self.objective.prior, self.objective.price
        self.answers = self.narrower = False
        self.optimiser = make_optimiser(network, self.prior, settings, answers=False, started=self._started)
        trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.average = WeightAverage(trained, settings.average) if settings.average else None
        self.steps = 0

    def step(
        self,
        batch_nhwc: Tensor,
        progress: float,
        *,
        labels: Tensor | None = None,
        recall: Callable[[int], list[Tensor]] | None = None,
    ) -> StepResult:
        """Take one optimiser step.

        Args:
            batch_nhwc: uint8 images [n, h, w, c], not augmented yet unless `recall` is given.
            progress: In [0, 1].
            labels: int64 [n]; needed if the settings weigh labels.
            recall: Returns the first so many targets that the teacher once gave for these very images.

        Raises:
            GateError: If a loss term or a gradient is not finite; names the first tensor that is not. The
                parameters are then as before the step.
        """
        self._enter_stage(progress)
        if not self.network.training:
            self.network.train()
        self._let_narrower_in(batch_nhwc, progress)
        factor, late = self.settings.schedule.rate(progress), self.settings.start_factor(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor * (late if group["rests"] else 1.0)
        before = self.generator.get_state()
        batch_nhwc = batch_nhwc.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True) if labels is not None else None
        found = self.objective(batch_nhwc, progress, labels=labels, recall=recall)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(found.terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        terms = self._checked(found.terms, batch_nhwc, progress, before, labels, recall)
        self.optimiser.step()
        if self.average is not None:
            self.average.update()
        self.steps += 1
        return StepResult(
            terms=terms,
            bits=self.objective.learn(found, progress),
            learning_rate=self.optimiser.param_groups[0]["lr"],
        )

    def state(self) -> dict[str, Any]:
        """Return everything beside the network's parameters that a resumed run needs."""
        return {
            "prior": self.prior.state_dict(),
            "prices": self.price.prices,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "noise": self.objective.noise.get_state(),
            "average": None if self.average is None else self.average.state(),
            "started": sorted(self._started),
            "answers": self.answers,
            "narrower": self.narrower,
            "steps": self.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`, which says itself which tensors had been started."""
        self._started = frozenset(state["started"])
        self.optimiser = make_optimiser(
            self.network, self.prior, self.settings, answers=False, started=self._started
        )
        if state["answers"]:
            self._answer()
        self.prior.load_state_dict(state["prior"])
        self.price.prices = [[float(price) for price in row] for row in state["prices"]]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.objective.noise.set_state(state["noise"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.steps, self.narrower = int(state["steps"]), bool(state["narrower"])

    def _enter_stage(self, progress: float) -> None:
        if not self.answers and self.settings.schedule.answers(progress):
            self._answer()

    def _let_narrower_in(self, batch_nhwc: Tensor, progress: float) -> None:
        """After delayed shrinking, start the narrower widths from what the widest has learned."""
        begun = self.settings.schedule.full_width
        if begun and progress >= begun and not self.narrower:
            self.narrower = True
            start_narrower(self.network, self.prior, batch_nhwc.to(self.device))

    def _answer(self) -> None:
        """Enter stage 2: some recipes change the optimiser there, or stop training the encoder."""
        self.answers = True
        settings, network = self.settings, self.network
        if settings.freeze_encoder:
            for part in (network.encoder, network.quantiser, self.prior):
                part.requires_grad_(False)
        changes = (settings.answer_optimiser, settings.answer_learning_rate, settings.answer_weight_decay)
        if settings.freeze_encoder or any(change is not None for change in changes):
            self.optimiser = make_optimiser(
                network, self.prior, settings, answers=True, started=self._started
            )

    def _checked(
        self,
        terms: Mapping[str, Tensor],
        batch_nhwc: Tensor,
        progress: float,
        generator_state: Tensor,
        labels: Tensor | None,
        recall: Callable[[int], list[Tensor]] | None,
    ) -> dict[str, float]:
        """Clip the gradients and return the terms as numbers, all in one transfer from the device."""
        norms = self._clip()
        values = torch.stack([*(term.detach() for term in terms.values()), *norms]).tolist()
        named = dict(zip(terms, values, strict=False))
        if all(math.isfinite(value) for value in values):
            return named
        bad = next((name for name, value in named.items() if not math.isfinite(value)), None)
        if bad is not None:

            def again() -> None:
                self.generator.set_state(generator_state)
                self.objective(batch_nhwc, progress, labels=labels, recall=recall)

            what = first_tensor(self.network, again) or first_tensor(self.prior, lambda: None)
            tensor = f"; the first tensor that is not finite: {what}" if what else ""
            raise GateError(f"step {self.steps}: loss term '{bad}' is {named[bad]}{tensor}; {_REMEDY}")
        name = first_gradient([*self.network.named_parameters(), *self.prior.named_parameters()])
        raise GateError(f"step {self.steps}: the gradient of '{name}' is not finite; {_REMEDY}")

    def _clip(self) -> list[Tensor]:
        # The exit is clipped by itself: its first, large gradients would shrink all the others.
        exit_head = self.network.exit_head
        own = [] if exit_head is None else list(exit_head.parameters())
        apart = {id(value) for value in own}
        everything = [value for group in self.optimiser.param_groups for value in group["params"]]
        shared = [value for value in everything if id(value) not in apart]
        limit = self.settings.clip or math.inf
        # In stage 1 the exit has none; the norm of no gradients would lie on the CPU, whatever the device.
        graded = ([value for value in values if value.grad is not None] for values in (shared, own))
        return [nn.utils.clip_grad_norm_(values, limit) for values in graded if values]
