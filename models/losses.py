"""What the student is taught: the teacher's features and its softened answer, one value per image.

Values per image, not means, so that widths, prefixes and stages can weigh them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FeatureLoss = Literal["relative", "channel", "sum"]
AnswerLoss = Literal["kl", "alpha"]

_TINY = 1e-6
# Least variance of a channel, as a share of the mean over channels.
_QUIET = 1e-2
# AlphaNet's bound on an importance weight q/p.
_ALPHA_CLIP = 5.0


def feature_loss(student_nchw: Tensor, teacher_nchw: Tensor, kind: FeatureLoss = "relative") -> Tensor:
    """Return the squared error of each image's features, [n].

    Args:
        student_nchw: Features of any shape [n, ...].
        teacher_nchw: Likewise.
        kind: "relative": the mean error as a share of the teacher's variance, 0 is perfect and 1 a constant
            guess, which makes levels of different scale comparable. "channel": likewise, each channel by its
            own variance. "sum": the plain sum (BottleFit, Entropic Student).
    """
    teacher = teacher_nchw.float()
    squared = (student_nchw.float() - teacher).square_()
    if kind == "sum":
        return squared.flatten(1).sum(dim=1)
    if kind == "channel":
        # A channel that hardly varies must not outweigh the others.
        variance = teacher.transpose(0, 1).flatten(1).var(dim=1)
        floor = _QUIET * variance.mean() + _TINY
        return (squared.flatten(2).mean(dim=2) / variance.clamp_min(floor)).mean(dim=1)
    return squared.flatten(1).mean(dim=1) / teacher.var().clamp_min(_TINY)


def distillation_loss(
    student_nk: Tensor, teacher_nk: Tensor, temperature: float, kind: AnswerLoss = "kl"
) -> Tensor:
    """Return the distance of each softened answer from the teacher's, times T², in nats, [n].

    "kl" is KL(teacher ‖ student) (Hinton et al., 2015). "alpha" is the adaptive α-divergence (AlphaNet, Wang
    et al., 2021) with α₋ = −1, α₊ = +1: per image the larger of ½(Σ q·min(q/p, 5) − 1), which punishes a
    student that is sure where the teacher is not, and KL, which punishes the opposite.
    """
    student = F.log_softmax(student_nk.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_nk.float() / temperature, dim=1)
    forward = (teacher.exp() * (teacher - student)).sum(dim=1)
    if kind == "kl":
        return forward * temperature**2
    # q/p from logarithms, bounded before it can overflow: the plain quotient is 0/0 where both vanish.
    ratio = (student - teacher).clamp(max=math.log(_ALPHA_CLIP)).exp()
    weighted = (student.exp() * ratio).detach()
    value, gradient = 0.5 * (weighted.sum(dim=1) - 1.0), (weighted * student).sum(dim=1)
    backward = value + gradient - gradient.detach()
    return torch.where(backward > forward, backward, forward) * temperature**2


def label_loss(student_nk: Tensor, labels: Tensor, partners: Tensor | None, share: float) -> Tensor:
    """Return the cross-entropy of each image with its label, [n]; of a mixed one with both labels."""
    loss = F.cross_entropy(student_nk.float(), labels, reduction="none")
    if partners is None:
        return loss
    other = F.cross_entropy(student_nk.float(), labels[partners], reduction="none")
    return share * loss + (1.0 - share) * other
