import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.losses import AnswerLoss, distillation_loss, feature_loss, label_loss


def test_feature_loss_is_a_share_of_the_teachers_variance() -> None:
    teacher = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    guess = torch.full_like(teacher, float(teacher.mean()))
    assert feature_loss(teacher, teacher).tolist() == [0.0] * 8
    assert feature_loss(guess, teacher).mean().item() == pytest.approx(1.0, rel=0.02)
    torch.testing.assert_close(feature_loss(100 * guess, 100 * teacher), feature_loss(guess, teacher))


def test_the_summed_feature_loss_is_the_squared_distance_of_each_image() -> None:
    student, teacher = (
        torch.zeros(2, 1, 2, 2),
        torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 1, 2, 2),
    )
    assert feature_loss(student, teacher, "sum").tolist() == [4.0, 36.0]


def test_a_constant_teacher_gives_a_finite_loss() -> None:
    assert torch.isfinite(feature_loss(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["kl", "alpha"])
def test_distillation_loss_is_zero_only_for_the_same_answer(temperature: float, kind: AnswerLoss) -> None:
    teacher = torch.tensor([[3.0, 0.0, -1.0], [0.0, 1.0, 2.0]])
    same = distillation_loss(teacher + 5, teacher, temperature, kind)
    assert same.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert (distillation_loss(-teacher, teacher, temperature, kind) > 0.5).all()


def test_distillation_loss_is_the_divergence_times_the_squared_temperature() -> None:
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    wanted = 4 * (p * (p / q).log()).sum(dim=1)
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0), wanted)


def _alpha_by_hand(student_nk: torch.Tensor, teacher_nk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both sides of the adaptive α-divergence from the plain quotient, in double precision."""
    p, q = teacher_nk.double().softmax(1), student_nk.double().softmax(1)
    left = 0.5 * ((q * (q / p).clamp(max=5.0)).sum(dim=1) - 1)
    return left, (p * (p / q).log()).sum(dim=1)


@given(seed=st.integers(0, 200))
def test_alpha_is_the_larger_side_and_has_its_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student_nk, teacher_nk = 2 * torch.randn(2, 6, 5, generator=generator)
    student_nk.requires_grad_()
    left, right = _alpha_by_hand(student_nk.detach(), teacher_nk)
    found = distillation_loss(student_nk, teacher_nk, 1.0, "alpha")
    torch.testing.assert_close(found.double(), torch.maximum(left, right), atol=1e-4, rtol=1e-4)
    found.sum().backward()
    log_q, log_p = student_nk.detach().log_softmax(1), teacher_nk.log_softmax(1)
    log_q.requires_grad_()
    weight = log_q.exp().detach() * (log_q - log_p).exp().clamp(max=5.0).detach()
    side = torch.where(left > right, (weight * log_q).sum(dim=1), -(log_p.exp() * log_q).sum(dim=1))
    side.sum().backward()
    # The gradient with respect to log q, carried through the softmax by hand.
    slope = log_q.grad
    assert slope is not None
    wanted = slope - log_q.detach().exp() * slope.sum(dim=1, keepdim=True)
    torch.testing.assert_close(student_nk.grad, wanted, atol=1e-4, rtol=1e-3)


def test_alpha_punishes_what_kl_forgives() -> None:
    # The student is sure of a class that the teacher thinks unlikely, but gives the teacher's own a chance.
    teacher, student = torch.tensor([[0.0, -2.5, -2.5]]), torch.tensor([[0.0, 0.4, -2.5]])
    assert distillation_loss(student, teacher, 1.0, "alpha") > distillation_loss(student, teacher, 1.0, "kl")


@pytest.mark.parametrize("kind", ["kl", "alpha"])
def test_confident_logits_stay_finite(kind: AnswerLoss) -> None:
    student = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    loss = distillation_loss(student, torch.tensor([[1e4, -1e4]] * 2), 1.0, kind)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_mixed_image_has_both_labels() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    plain = label_loss(logits, labels, None, 1.0)
    torch.testing.assert_close(plain, torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    swapped = label_loss(logits, 1 - labels, None, 1.0)
    mixed = label_loss(logits, labels, torch.tensor([1, 0]), 0.7)
    torch.testing.assert_close(mixed, 0.7 * plain + 0.3 * swapped)
