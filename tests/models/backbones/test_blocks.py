import pytest
import torch
from torch import nn

from isthmus.models.backbones.blocks import (
    ConvNormActivation,
    SqueezeExcitation,
    TrailingPadConv2d,
    divisible,
)


@pytest.mark.parametrize(
    ("channels", "expected"), [(72 / 4, 24), (672 / 4, 168), (960 / 4, 240), (3, 8), (16, 16), (20, 24)]
)
def test_divisible(channels: float, expected: int) -> None:
    assert divisible(channels) == expected


def test_trailing_padding_looks_below_and_right_only() -> None:
    convolution = TrailingPadConv2d(1, 1, 3, 2, 0, bias=False)
    nn.init.ones_(convolution.weight)
    image = torch.zeros(1, 1, 4, 4)
    image[..., 0, 0], image[..., 3, 3] = 1, 10
    # The window at (1, 1) starts at pixel (2, 2); centred padding would start it at (1, 1).
    assert convolution(image).squeeze().tolist() == [[1, 0], [0, 10]]
    image[..., 2, 2] = 100
    assert convolution(image).squeeze().tolist() == [[101, 100], [100, 110]]


def test_a_block_without_activation_ends_in_its_norm() -> None:
    block = ConvNormActivation(3, 4, 5, activation=None)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.BatchNorm2d]
    assert block(torch.zeros(2, 3, 7, 7)).shape == (2, 4, 7, 7)


def test_the_gate_scales_whole_channels() -> None:
    gate = SqueezeExcitation(3, 2, activation=nn.ReLU, gate=nn.Sigmoid)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    ratio = gate(x) / x
    assert torch.allclose(ratio, ratio.mean((2, 3), keepdim=True).expand_as(ratio), atol=1e-5)
    assert 0 < ratio.min() < ratio.max() < 1
