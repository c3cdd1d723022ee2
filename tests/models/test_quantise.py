import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.models.config import ZERO_POINT
from isthmus.models.quantise import Dequantise, LatentQuantiser, Quantise, prefix_mask


def test_rounding_passes_the_gradient_straight_through() -> None:
    levels = torch.tensor([0.4, 0.6, -2.5, 300.0], requires_grad=True)
    rounded = LatentQuantiser(1).rounded(levels)
    assert rounded.tolist() == [0.0, 1.0, -2.0, 127.0]
    (rounded * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert levels.grad is not None
    assert levels.grad.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_the_exported_ends_agree_with_training() -> None:
    quantiser = LatentQuantiser(3)
    with torch.no_grad():
        quantiser.log_scale.copy_(torch.tensor([0.0, 1.0, 2.0]))
    y = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 4
    codes = Quantise(quantiser.scale)(y)
    assert codes.dtype == torch.uint8
    assert len(codes.unique()) > 20
    wanted = quantiser.dequantised(quantiser.rounded(quantiser.levels(y)))
    torch.testing.assert_close(Dequantise(quantiser.scale)(codes), wanted, atol=1e-5, rtol=1e-5)


def test_extremes_are_clipped_not_wrapped() -> None:
    y = torch.tensor([-1e6, 1e6, 0.0]).reshape(1, 1, 1, 3)
    assert Quantise(torch.ones(1))(y).flatten().tolist() == [0, 255, ZERO_POINT]


def test_the_zero_point_is_exactly_zero() -> None:
    codes = torch.full((1, 2, 1, 1), ZERO_POINT, dtype=torch.uint8)
    assert Dequantise(torch.tensor([3.7, 0.2]))(codes).abs().max() == 0.0


@pytest.mark.parametrize("channels", [1, 4])
def test_prefix_mask_keeps_the_leading_channels(channels: int) -> None:
    mask = prefix_mask(torch.arange(channels + 1), channels)
    assert mask.shape == (channels + 1, channels, 1, 1)
    assert mask[:, :, 0, 0].sum(1).tolist() == list(range(channels + 1))
    assert (mask[:, :-1] >= mask[:, 1:]).all()


@given(codes=st.lists(st.integers(1, 255), min_size=1, max_size=20), scale=st.floats(0.05, 50))
def test_codes_survive_the_way_to_reals_and_back(codes: list[int], scale: float) -> None:
    tensor = torch.tensor(codes, dtype=torch.uint8).reshape(1, 1, 1, -1)
    scales = torch.tensor([scale])
    assert Quantise(scales)(Dequantise(scales)(tensor)).flatten().tolist() == codes
