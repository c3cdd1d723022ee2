"""What one step minimises: the student's passes at the widths of the step, and the loss terms.

The teacher's pass is always whole; the student's samples each have a width and a prefix of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.models.folding import folded
from isthmus.models.losses import distillation_loss, feature_loss, label_loss
from isthmus.models.quantise import prefix_mask
from isthmus.models.rate import LatentPrior, RatePrice
from isthmus.models.settings import TrainSettings
from isthmus.models.split_network import SplitNetwork
from isthmus.runtime.errors import InputError

Recall = Callable[[int], list[Tensor]]
_Parts = Sequence[tuple[int, slice]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Loss terms by name, and the mean bits per channel by width index."""

    terms: Mapping[str, Tensor]
    bits: Mapping[int, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latents:
    """What is sent of every sample [n, C, h, w], its priced bits [n, C] if any, bits per channel by width."""

    sent: Tensor
    priced: Tensor | None
    bits: Mapping[int, Tensor]


class Objective:
    """The loss of a split network under the settings of a training."""

    def __init__(self, network: SplitNetwork, settings: TrainSettings, generator: torch.Generator) -> None:
        """Take the network, the settings, and the generator of all small draws."""
        self.network, self.settings, self.generator = network, settings, generator
        config = network.config
        self.device = next(network.parameters()).device
        # Noise is as large as the latents: it is drawn where they are.
        self.noise = torch.Generator(self.device).manual_seed(settings.seed + 1)
        self.prior = LatentPrior(len(config.widths), config.channels).to(self.device)
        self.price = rate_price(settings, len(config.widths), config.channel_counts)
        # Weights that autocast need not convert in every step.
        dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        self._teacher_segments = folded([network.teacher_head, *network.teacher_tail], dtype)
        self._tail = list(network.tail) if config.tail_tuned else self._teacher_segments[1:]
        if settings.compiled:  # in place: names and states of the modules stay as they are
            for module in (network.encoder, network.decoder, *self._teacher_segments, *network.tail):
                module.compile()

    def __call__(
        self,
        batch_nhwc: Tensor,
        progress: float,
        *,
        labels: Tensor | None = None,
        recall: Recall | None = None,
    ) -> Found:
        """Return the terms of uint8 images at `progress`; with `recall` they are augmented already."""
        settings = self.settings
        partners, share = None, 1.0
        if recall is None:
            batch_nhwc = settings.augmentation(batch_nhwc, self.generator)
            if settings.mixing.active:
                batch_nhwc, partners, share = settings.mixing(batch_nhwc, self.generator)
        x_nchw = self.network.normalise(batch_nhwc).contiguous(memory_format=torch.channels_last)
        enabled = settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            answers = settings.schedule.answers(progress)
            wanted = len(self.network.teacher_tail) + 1
            if not answers:
                wanted = 1 + min(settings.levels, wanted - 2)
            targets = recall(wanted) if recall is not None else self._teacher(x_nchw, wanted)
            mixed = None if labels is None else _Labels(labels, partners, share)
            return self._terms(x_nchw, targets, progress, answers, mixed)

    def learn(self, found: Found, progress: float) -> dict[int, float]:
        """Steer the prices by the bits of a step, and return them per whole latent, by width index."""
        if not found.bits:
            return {}
        rows = torch.stack(list(found.bits.values())).tolist()
        for width_index, bits_c in zip(found.bits, rows, strict=True):
            self.price.update(width_index, bits_c)
        if progress < self.settings.schedule.full_width:
            self.price.share(len(self.price.prices) - 1)
        return {width_index: sum(bits_c) for width_index, bits_c in zip(found.bits, rows, strict=True)}

    def _terms(
        self, x_nchw: Tensor, targets: list[Tensor], progress: float, answers: bool, labels: _Labels | None
    ) -> Found:
        settings, network, config = self.settings, self.network, self.network.config
        schedule = settings.schedule
        parts = schedule.parts(schedule.widths(progress, len(config.widths), self.generator), len(x_nchw))
        latents = self._encode(x_nchw, parts, answers)
        samples = len(latents.sent)
        counts, mask = self._prefixes(samples)
        outputs = [network.decoder(self._real(latents.sent * mask))]
        for segment in self._tail[: len(targets) - 1]:
            outputs.append(segment(outputs[-1]))
        if samples != len(x_nchw):  # every width saw the whole batch
            targets = [torch.cat([target[part] for _, part in parts]) for target in targets]
            labels = labels and labels.repeated(len(parts))
        weight_n = self._width_weights(parts, progress)
        terms: dict[str, Tensor] = {}
        if latents.priced is not None:
            dearer = (config.channels / counts) ** settings.rate.prefix_power
            terms["rate"] = (latents.priced * mask[:, :, 0, 0] * dearer[:, None]).sum() / samples
        pairs = list(zip(outputs, targets, strict=True))
        if answers:
            student_nk, teacher_nk = pairs.pop()
            answer_n = weight_n * (counts / config.channels) ** settings.prefix_power
            if settings.answer_weight:
                wanted_nk = self._in_place(x_nchw, parts, teacher_nk) if settings.in_place else teacher_nk
                loss_n = distillation_loss(student_nk, wanted_nk, settings.temperature, settings.answer_loss)
                terms["answer"] = settings.answer_weight * (answer_n * loss_n).mean()
            if labels is not None and settings.label_weight:
                loss_n = label_loss(student_nk, labels.labels, labels.partners, labels.share)
                terms["labels"] = settings.label_weight * (answer_n * loss_n).mean()
            if network.exit_head is not None:
                # Detached: an early exit must not bend the latent that the tail needs.
                exit_nk = network.exit_head(self._real(latents.sent).detach())
                terms["exit"] = distillation_loss(exit_nk, teacher_nk, settings.temperature).mean()
        weight = settings.feature_weight_at(progress) if answers else 1.0
        if weight:
            for index, (student, teacher) in enumerate(pairs):
                level = weight * settings.level_weights[min(index, len(settings.level_weights) - 1)]
                if level:
                    loss_n = feature_loss(student, teacher, settings.feature_loss)
                    terms[f"features{index}"] = level * (weight_n * loss_n).mean()
        return Found(terms=terms, bits=latents.bits)

    @torch.no_grad()
    def _teacher(self, x_nchw: Tensor, wanted: int) -> list[Tensor]:
        """Return the teacher's features at the cut and after it, `wanted` in all; the logits are the last."""
        targets = [x_nchw]
        for segment in self._teacher_segments[:wanted]:
            targets.append(segment(targets[-1]))
        return targets[1:]

    def _encode(self, x_nchw: Tensor, parts: _Parts, answers: bool) -> _Latents:
        kind = self.settings.quantisation
        noisy = kind == "noise" or (kind == "noise-round" and not answers)
        sent: list[Tensor] = []
        priced: list[Tensor] = []
        bits: dict[int, Tensor] = {}
        for width_index, part in parts:
            with torch.set_grad_enabled(not (answers and self.settings.freeze_encoder)):
                y_nchw = self.network.encoder(x_nchw[part], width_index)
                if kind == "none":
                    sent.append(y_nchw)
                    continue
                levels = self.network.quantiser.levels(y_nchw)
                # Uniform noise stands for rounding in the estimate, where rounding has no gradient (Ballé).
                if noisy or self.settings.rate.active:
                    noise = torch.rand(levels.shape, generator=self.noise, device=self.device) - 0.5
                sent.append(levels + noise if noisy else self.network.quantiser.rounded(levels))
            if self.settings.rate.active:
                bits_nc = self.prior.bits(levels + noise, width_index)
                priced.append(self.price.per_channel(width_index).to(self.device) * bits_nc)
                bits[width_index] = bits_nc.detach().mean(dim=0)
        return _Latents(sent=torch.cat(sent), priced=torch.cat(priced) if priced else None, bits=bits)

    def _real(self, sent_nchw: Tensor) -> Tensor:
        """Return the real latent that the decoder takes."""
        if self.settings.quantisation == "none":
            return sent_nchw
        return self.network.quantiser.dequantised(sent_nchw)

    def _prefixes(self, samples: int) -> tuple[Tensor, Tensor]:
        """Return how many channels each sample keeps [n], and the mask [n, C, 1, 1] that says so."""
        config = self.network.config
        if self.settings.nested is None:
            counts = torch.full((samples,), config.channels)
        else:
            counts = self.settings.nested.counts(samples, config.channel_counts, self.generator)
        counts = counts.to(self.device)
        return counts, prefix_mask(counts, config.channels)

    def _width_weights(self, parts: _Parts, progress: float) -> Tensor:
        narrow, last = self.settings.schedule.narrow_weight(progress), len(self.network.config.widths) - 1
        weights = [1.0 if width_index == last else narrow for width_index, _ in parts]
        lengths = torch.tensor([part.stop - part.start for _, part in parts])
        return torch.tensor(weights).repeat_interleave(lengths).to(self.device)

    @torch.no_grad()
    def _in_place(self, x_nchw: Tensor, parts: _Parts, teacher_nk: Tensor) -> Tensor:
        """Return the answers to imitate: the teacher's at full width, the full width's own for the others."""
        network, last = self.network, len(self.network.config.widths) - 1
        narrow = [part for width_index, part in parts if width_index != last]
        if not narrow:
            return teacher_nk
        x_nchw = torch.cat([x_nchw[part] for part in narrow])
        y_nchw = network.encoder(x_nchw, last)
        if self.settings.quantisation != "none":
            y_nchw = network.quantiser.rounded(network.quantiser.levels(y_nchw))
        answers = network.decoder(self._real(y_nchw))
        for segment in self._tail:
            answers = segment(answers)
        # The widest comes first in a step, so the others' samples are the last.
        return torch.cat([teacher_nk[: len(teacher_nk) - len(answers)], answers.to(teacher_nk.dtype)])


@dataclass(frozen=True, slots=True)
class _Labels:
    """Labels of a batch, and those of the partners that its images are mixed with."""

    labels: Tensor
    partners: Tensor | None
    share: float

    def repeated(self, times: int) -> _Labels:
        count = len(self.labels)
        partners = self.partners
        if partners is not None:
            partners = torch.cat([partners + at * count for at in range(times)])
        return _Labels(self.labels.repeat(times), partners, self.share)


def rate_price(settings: TrainSettings, widths: int, counts: Sequence[int]) -> RatePrice:
    """Return the prices that a training of so many `widths` and these channel `counts` begins with.

    Raises:
        InputError: If the settings have not one for each.
    """
    rate = settings.rate
    for what, values in (("rate prices", rate.price), ("rows of target bytes", rate.target_bits)):
        if len(values) not in (0, 1, widths):
            raise InputError(f"{len(values)} {what} for {widths} widths: give one, or one per width")
    first = rate.price * widths if len(rate.price) == 1 else rate.price
    if not rate.target_bits:
        return RatePrice(first, counts[-1:])
    rows = rate.target_bits * widths if len(rate.target_bits) == 1 else rate.target_bits
    if len({len(row) for row in rows}) > 1 or len(rows[0]) not in (1, len(counts)):
        shown = ",".join("/".join(f"{bits / 8:g}" for bits in row) for row in rate.target_bits)
        raise InputError(
            f"target_bytes {shown}: give each width one, or each of them {len(counts)}, one per channel count"
        )
    per_count = len(rows[0]) == len(counts) > 1
    return RatePrice(first, counts if per_count else counts[-1:], rows, rate.speed)
