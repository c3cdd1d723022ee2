from collections.abc import Callable

import pytest
import torch
from torch import nn

from isthmus.models.network import ZERO_POINT, SplitNetwork, tensor_digest
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import GateError


@pytest.fixture
def batch(quarters_test: ImageSet) -> torch.Tensor:
    return torch.from_numpy(quarters_test.images[:12])


@pytest.mark.parametrize("width_index", range(4))
def test_a_materialised_head_emits_the_codes(
    calibrated: SplitNetwork, batch: torch.Tensor, width_index: int
) -> None:
    wanted = calibrated.codes(batch, width_index)
    found = calibrated.materialise_head(width_index)(batch)
    assert found.dtype == torch.uint8
    assert found.shape == (12, 8, 4, 4)
    assert len(wanted.unique()) > 5
    difference = (found.int() - wanted.int()).abs()
    # Folding changes the order of additions: a value on the edge of two levels may fall to the other side.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


def test_widths_differ(calibrated: SplitNetwork, batch: torch.Tensor) -> None:
    codes = [calibrated.codes(batch, index) for index in range(4)]
    assert not any(torch.equal(codes[0], other) for other in codes[1:])


def test_a_materialised_tail_answers_alike(calibrated: SplitNetwork, batch: torch.Tensor) -> None:
    codes = calibrated.codes(batch, 3)
    wanted = calibrated.logits(codes)
    assert wanted.std(0).max() > 0.01
    torch.testing.assert_close(calibrated.materialise_tail()(codes), wanted)


def test_absent_channels_are_the_zero_point(calibrated: SplitNetwork, batch: torch.Tensor) -> None:
    codes = calibrated.codes(batch, 3)
    cut = codes.clone()
    for channel, zero_point in enumerate(calibrated.zero_points):
        if channel >= 2:
            cut[:, channel] = zero_point
    assert calibrated.zero_points == (ZERO_POINT,) * 8
    torch.testing.assert_close(calibrated.materialise_tail()(cut), calibrated.logits(codes, channels=2))
    assert not torch.allclose(calibrated.logits(codes, channels=2), calibrated.logits(codes))


def test_the_exit_is_materialised_or_none(
    calibrated: SplitNetwork, batch: torch.Tensor, make_network: Callable[..., SplitNetwork]
) -> None:
    codes = calibrated.codes(batch, 0)
    module = calibrated.materialise_exit()
    wanted = calibrated.exit_logits(codes)
    assert module is not None
    assert wanted is not None
    torch.testing.assert_close(module(codes), wanted)
    without = make_network(exit_channels=0)
    assert without.materialise_exit() is None
    assert without.exit_logits(codes) is None


def test_the_teacher_is_the_uncut_network(
    calibrated: SplitNetwork, batch: torch.Tensor, make_teacher: Callable[[], nn.Module]
) -> None:
    x = (batch.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        torch.testing.assert_close(
            calibrated.materialise_teacher()(batch), make_teacher()(x), atol=1e-5, rtol=1e-5
        )


def test_materialised_modules_are_copies_without_gradients(calibrated: SplitNetwork) -> None:
    head, tail = calibrated.materialise_head(0), calibrated.materialise_tail()
    before = tensor_digest(tail)
    with torch.no_grad():
        calibrated.decoder.layers[0].weight.add_(1.0)  # type: ignore[operator]
    assert tensor_digest(tail) == before
    for module in (head, tail):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_the_teacher_never_learns_and_never_trains(make_network: Callable[..., SplitNetwork]) -> None:
    network = make_network().train()
    assert not any(parameter.requires_grad for parameter in network.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in network.tail.parameters())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert network.encoder.training


def test_a_tuned_tail_is_a_copy(make_network: Callable[..., SplitNetwork]) -> None:
    network = make_network(tail_tuned=True)
    assert all(parameter.requires_grad for parameter in network.tail.parameters())
    mine, theirs = next(network.tail.parameters()), next(network.teacher_tail.parameters())
    assert mine is not theirs
    assert torch.equal(mine, theirs)


def test_without_calibration_there_are_no_codes(
    make_network: Callable[..., SplitNetwork], batch: torch.Tensor
) -> None:
    with pytest.raises(GateError, match="no BatchNorm statistics"):
        make_network().eval().codes(batch, 0)


def test_the_digest_follows_every_value(make_teacher: Callable[[], nn.Module]) -> None:
    first, second = make_teacher(), make_teacher()
    assert tensor_digest(first) == tensor_digest(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[0].add_(1e-3)
    assert tensor_digest(first) != tensor_digest(second)
