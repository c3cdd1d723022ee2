import torch

from isthmus.models.exit_head import ExitHead


def test_the_exit_answers_from_the_latent() -> None:
    logits = ExitHead(8, 8, 4)(torch.randn(5, 8, 4, 4))
    assert logits.shape == (5, 4)
    assert logits.std() > 0
