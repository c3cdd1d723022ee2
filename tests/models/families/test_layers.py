import pytest
import torch
from torch import nn

from isthmus.models.calibration import calibration
from isthmus.models.families.layers import SlimBatchNorm2d, SlimConv2d
from isthmus.runtime.errors import GateError


@pytest.fixture
def x_nchw() -> torch.Tensor:
    return torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 + 1


def test_a_narrow_convolution_is_a_plain_one_with_the_leading_channels(x_nchw: torch.Tensor) -> None:
    slim = SlimConv2d((2, 4), (3, 6), 3, stride=2)
    plain = nn.Conv2d(2, 3, 3, 2, 1, bias=False)
    plain.weight.data = slim.weight.data[:3, :2].clone()
    torch.testing.assert_close(slim(x_nchw[:, :2], 0), plain(x_nchw[:, :2]))
    assert slim(x_nchw, 1).shape == (6, 6, 4, 4)


def test_a_narrow_step_leaves_the_other_channels_without_gradient(x_nchw: torch.Tensor) -> None:
    slim = SlimConv2d((2, 4), (3, 6), 3)
    slim(x_nchw[:, :2], 0).square().sum().backward()
    assert slim.weight.grad is not None
    assert slim.weight.grad[:3, :2].abs().min() > 0
    assert slim.weight.grad[3:].abs().max() == 0
    assert slim.weight.grad[:, 2:].abs().max() == 0


def test_an_uncalibrated_width_refuses_to_run(x_nchw: torch.Tensor) -> None:
    norm = SlimBatchNorm2d((2, 4))
    with calibration(norm):
        norm(x_nchw, 1)
    norm.eval()
    norm(x_nchw, 1)
    with pytest.raises(GateError, match="width index 0 has no BatchNorm statistics"):
        norm(x_nchw[:, :2], 0)
    with pytest.raises(GateError, match="width index 0"):
        norm.folded(0)


def test_training_forgets_its_batches(x_nchw: torch.Tensor) -> None:
    norm = SlimBatchNorm2d((4,)).train()
    norm(x_nchw, 0)
    assert int(norm.batches[0]) == 0


def test_calibration_averages_its_batches_alike(x_nchw: torch.Tensor) -> None:
    norm = SlimBatchNorm2d((2, 4)).eval()
    batches = [x_nchw, 3 * x_nchw, x_nchw - 5]
    with calibration(norm):
        for batch in batches:
            norm(batch, 1)
    mean, variance = norm.statistics(1)
    torch.testing.assert_close(mean, torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0))
    torch.testing.assert_close(variance, torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0))


def test_calibration_starts_anew(x_nchw: torch.Tensor) -> None:
    norm = SlimBatchNorm2d((4,)).eval()
    for batch in (100 * x_nchw, x_nchw):
        with calibration(norm):
            norm(batch, 0)
    torch.testing.assert_close(norm.statistics(0)[0], x_nchw.mean((0, 2, 3)))
    assert not norm.calibrating


@pytest.mark.parametrize("width_index", [0, 1])
def test_folding_reproduces_convolution_and_norm(x_nchw: torch.Tensor, width_index: int) -> None:
    channels = (2, 4)
    conv, norm = SlimConv2d(channels, (3, 6), 3), SlimBatchNorm2d((3, 6))
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = x_nchw[:, : channels[width_index]]
    norm.eval()
    with calibration(norm):
        norm(conv(x, width_index) * 3, width_index)
    wanted = norm(conv(x, width_index), width_index)
    folded = conv.materialise(width_index, *norm.folded(width_index))
    assert wanted.std() > 0.1
    torch.testing.assert_close(folded(x), wanted, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
