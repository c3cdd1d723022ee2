from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.backbones import make_model
from isthmus.models.design import BottleneckSize
from isthmus.models.families.ensemble import WEIGHTS, BitPlaneQuantiser, bit_planes, signs, sum_planes
from isthmus.models.network import SplitNetwork


@given(place=st.integers(-(2**20), 2**20 - 1), bits=st.integers(1, 4))
def test_the_first_bits_are_the_uniform_quantiser_of_so_many_bits(place: int, bits: int) -> None:
    value = (place + 0.5) / 2**20  # never on the edge of two intervals
    v = torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1, 1)
    planes = signs(bit_planes(v, 4))
    planes[:, bits:] = 0  # absent
    step = 2.0 / 2**bits
    interval = int((value + 1) / step)
    assert float(sum_planes(planes, 4)) == pytest.approx(-1 + (interval + 0.5) * step)


def test_a_prefix_of_channels_is_a_number_of_bits() -> None:
    quantiser = BitPlaneQuantiser(3)
    y = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    codes = quantiser.codes(y)
    assert codes.shape == (2, 12, 4, 4)
    assert set(codes.unique().tolist()) == {127, 129}
    errors = []
    for bits in (1, 2, 3, 4):
        kept = codes.clone()
        kept[:, 3 * bits :] = quantiser.zero_point
        errors.append(float((quantiser.materialise_reals()(kept) - y.tanh()).abs().max()))
    assert all(error <= 2.0**-bits for bits, error in zip((1, 2, 3, 4), errors, strict=True))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_gradient_passes_straight_through_any_number_of_bits(bits: int) -> None:
    v = torch.tensor([[-0.6, 0.1, 0.7]]).reshape(1, 1, 1, 3).requires_grad_()
    quantiser = BitPlaneQuantiser(1)
    rounded = quantiser.rounded(bit_planes(v, 4))
    mask = torch.zeros(1, 4, 1, 1)
    mask[:, :bits] = 1
    sum_planes(rounded * mask, 4).sum().backward()
    assert v.grad is not None
    torch.testing.assert_close(v.grad, torch.ones_like(v))


def test_the_width_is_the_number_of_encoders(
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    lively: Callable[..., SplitNetwork],
) -> None:
    teacher = make_model("digits-cnn", 10, 1).eval()
    network = make_split(teacher, "stage2", (16, 16, 1), tiny_size("ensemble", channels=3))
    config = network.config
    assert config.widths == (0.25, 0.5, 0.75, 1.0)
    assert (config.channels, config.channel_counts) == (12, (3, 6, 9, 12))
    lively(network, torch.randint(0, 256, (8, 16, 16, 1), dtype=torch.uint8))
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        members = [member(x, 0) for member in network.encoder.members]  # type: ignore[union-attr]
        for width_index in range(4):
            parts = zip(WEIGHTS, members[: width_index + 1], strict=False)
            wanted = torch.stack([weight * part for weight, part in parts]).sum(0)
            torch.testing.assert_close(network.encoder(x, width_index), wanted)
