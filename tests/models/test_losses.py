import pytest
import torch

from isthmus.models.losses import distillation_loss, feature_loss


def test_feature_loss_is_a_share_of_the_teachers_variance() -> None:
    teacher = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    guess = torch.full_like(teacher, float(teacher.mean()))
    assert feature_loss(teacher, teacher).item() == 0.0
    assert feature_loss(guess, teacher).item() == pytest.approx(1.0, rel=0.02)
    assert feature_loss(100 * guess, 100 * teacher).item() == pytest.approx(
        feature_loss(guess, teacher).item()
    )


def test_a_constant_teacher_gives_a_finite_loss() -> None:
    assert torch.isfinite(feature_loss(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_loss_is_zero_only_for_the_same_answer(temperature: float) -> None:
    teacher = torch.tensor([[3.0, 0.0, -1.0], [0.0, 1.0, 2.0]])
    assert distillation_loss(teacher + 5, teacher, temperature).item() == pytest.approx(0.0, abs=1e-6)
    assert distillation_loss(-teacher, teacher, temperature).item() > 0.5


def test_distillation_loss_is_the_divergence_times_the_squared_temperature() -> None:
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    wanted = 4 * (p * (p / q).log()).sum()
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0), wanted)


def test_confident_logits_stay_finite() -> None:
    extreme = torch.tensor([[1e4, -1e4]])
    assert torch.isfinite(distillation_loss(-extreme, extreme, 1.0))
