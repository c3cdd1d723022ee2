"""What the student is taught: the teacher's features and its softened answer. Labels play no part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-6


def feature_loss(student_nchw: Tensor, teacher_nchw: Tensor) -> Tensor:
    """Return the squared error as a share of the teacher's variance: 0 is perfect, 1 a constant guess.

    The share makes levels of different scale comparable, so that their losses can be added.
    """
    teacher = teacher_nchw.float()
    return F.mse_loss(student_nchw.float(), teacher) / teacher.var().clamp_min(_TINY)


def distillation_loss(student_nk: Tensor, teacher_nk: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(teacher ‖ student) of logits softened by T (Hinton et al. 2015), in nats per image."""
    student = F.log_softmax(student_nk.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_nk.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
