"""How a bottleneck is trained, as plain facts: what a recipe, a run's folder and the trainer agree on.

Decides which combinations make sense. Knows nothing of networks and files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isthmus.models.augment import Augmentation, Mixing
from isthmus.models.losses import AnswerLoss, FeatureLoss
from isthmus.models.schedule import NestedDropout, Schedule
from isthmus.runtime.errors import InputError

Optimiser = Literal["adamw", "adam", "sgd"]
Quantisation = Literal["round", "noise", "noise-round", "none"]
Calibration = Literal["width", "widest"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTerm:
    """What bits cost in the loss.

    Attributes:
        price: First (or fixed) price in loss per bit; one for all widths to start with, or one per width.
        target_bits: Mean bits of a whole latent that the prices are steered to: one number, or one row per
            width with one number or one per channel count; empty keeps the prices.
        speed: How fast they follow, per step.
        prefix_power: The bits of a sample with c of C channels count (C/c)^power: short prefixes feel the
            price as much as the whole latent does.
    """

    price: tuple[float, ...] = (1e-5,)
    target_bits: tuple[tuple[float, ...], ...] = ()
    speed: float = 0.02
    prefix_power: float = 0.0

    @property
    def active(self) -> bool:
        """Whether there is a rate term at all."""
        return bool(self.target_bits) or any(self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a bottleneck is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step, shared by the widths of the step.
        optimiser, learning_rate: Of the bottleneck; the rate is the peak of the schedule.
        answer_optimiser, answer_learning_rate: Of stage 2 where they differ; None: as in stage 1.
        tail_learning_rate: Peak rate of a tuned tail.
        weight_decay, answer_weight_decay: On convolution and linear weights; of stage 2 where it differs.
        momentum: Of SGD.
        clip: Largest norm of the gradient; 0: none.
        temperature: Softens the teacher's answer.
        feature_weight_end: What the features' weight falls (or rises) to by the end; None: it stays.
        feature_weight, answer_weight, label_weight: Weights of the losses in stage 2; in stage 1 there are
            features only, with weight 1. Answers come in small: their gradient undoes features that took an
            epoch to learn. Labels are used only if their weight is not 0.
        feature_loss, answer_loss: See `losses`.
        prefix_power: In the answer loss a sample with c of C channels counts (c/C)^power; 0: all alike.
        levels: Later levels that stage 1 imitates besides the cut.
        level_weights: Weights of the features at the cut and at the later levels; the last is for the rest.
        in_place: Narrower widths imitate the answer of the student's full width instead of the teacher's.
        freeze_encoder: Stage 2 trains the decoder (and tail) only.
        start_rate: Of tensors that do not start from random numbers, the part of the learning rate.
        start_delay, start_ramp: Share of the run in which they (and a tuned tail) rest, and in which they
            then come up to their rate.
        linear_start: Images on which projection and decoder are fitted by regression first; 0: random.
        rate: The rate term.
        nested: Nested dropout; None sends every sample with all channels.
        quantisation: What stands for rounding: "round" (straight through), additive uniform "noise",
            "noise-round" (noise in stage 1), or "none", for quantisers fitted after training.
        calibration: "width": BatchNorm statistics per width; "widest": those of full width for all.
        schedule: Stages, learning rate and delayed shrinking.
        augmentation, mixing: Applied to every batch.
        views: If not 0, augmented copies per image that are drawn once, with the teacher's answers kept.
        precision: bfloat16 runs convolutions under autocast: twice as fast where the CPU has AVX-512 BF16.
        average: Decay of the running average of the weights that is kept at the end; 0: none.
        compiled: Whether torch.compile is used.
        exit_epochs: Passes that train the early exit alone, after everything else is finished.
        seed: Of everything random.

    Raises:
        InputError: If a value makes no sense.
    """

    epochs: int
    batch_size: int = 128
    optimiser: Optimiser = "adamw"
    learning_rate: float = 2e-3
    answer_optimiser: Optimiser | None = None
    answer_learning_rate: float | None = None
    tail_learning_rate: float = 3e-5
    weight_decay: float = 1e-4
    answer_weight_decay: float | None = None
    momentum: float = 0.9
    clip: float = 5.0
    temperature: float = 2.0
    feature_weight: float = 1.0
    feature_weight_end: float | None = None
    answer_weight: float = 0.25
    label_weight: float = 0.0
    feature_loss: FeatureLoss = "relative"
    answer_loss: AnswerLoss = "kl"
    prefix_power: float = 0.0
    levels: int = 1
    level_weights: tuple[float, ...] = (1.0,)
    in_place: bool = False
    freeze_encoder: bool = False
    start_rate: float = 1.0
    start_delay: float = 0.0
    start_ramp: float = 0.0
    linear_start: int = 0
    rate: RateTerm = field(default_factory=RateTerm)
    nested: NestedDropout | None = field(default_factory=NestedDropout)
    quantisation: Quantisation = "round"
    calibration: Calibration = "width"
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixing: Mixing = field(default_factory=Mixing)
    views: int = 0
    precision: Precision = "float32"
    average: float = 0.0
    compiled: bool = False
    exit_epochs: int = 0
    seed: int = 0

    def feature_weight_at(self, progress: float) -> float:
        """Return the weight of the features in stage 2 at `progress`."""
        end = self.feature_weight if self.feature_weight_end is None else self.feature_weight_end
        begun = self.schedule.features
        done = (progress - begun) / (1.0 - begun) if begun < 1.0 else 0.0
        return self.feature_weight + (end - self.feature_weight) * min(1.0, max(0.0, done))

    def start_factor(self, progress: float) -> float:
        """Return what tensors that do not start from random numbers are trained at, in [0, 1]."""
        if progress < self.start_delay:
            return 0.0
        return min(1.0, (progress - self.start_delay) / self.start_ramp) if self.start_ramp else 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"{self.epochs} epochs: give at least 1")
        if not 0.0 <= self.average < 1.0:
            raise InputError(f"average {self.average:g}: give a decay from 0 (none) to below 1, as 0.999")
        if self.views and self.mixing.active and self.label_weight:
            raise InputError(
                f"views {self.views}: what was mixed keeps the network's answers, not its labels; "
                "give label_weight 0, or leave out mixup and cutmix, or views"
            )
        if self.quantisation == "none" and self.rate.active:
            raise InputError("quantisation none has no rate to price; give rate_price 0 and no target_bytes")
        if not self.feature_weight and not self.answer_weight and not self.label_weight:
            raise InputError(
                "feature_weight, answer_weight and label_weight are all 0: nothing would be learned"
            )
        if not self.level_weights or not any(self.level_weights[: self.levels + 1]):
            raise InputError(f"level_weights {self.level_weights}: stage 1 would have nothing to learn")
        schedule = self.schedule
        shares = {name: getattr(schedule, name) for name in ("warm_up", "features", "full_width", "ramp")}
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} {value:g}: give a share of the run, from 0 to 1")
