from collections.abc import Callable

import pytest
import torch

from isthmus.models.linear_start import start_linearly
from isthmus.models.network import SplitNetwork
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError

Make = Callable[..., SplitNetwork]


@torch.no_grad()
def _error(network: SplitNetwork, images: ImageSet, width_index: int, channels: int | None = None) -> float:
    """Return the error at the cut as a share of the teacher's variance, statistics of the batch."""
    network.train()
    x_nchw = network.normalise(torch.from_numpy(images.images))
    wanted, quantiser = network.teacher_head(x_nchw), network.quantiser
    levels = quantiser.rounded(quantiser.levels(network.encoder(x_nchw, width_index)))
    if channels is not None:
        levels[:, channels:] = 0.0
    found = network.decoder(quantiser.dequantised(levels))
    return float((found - wanted).square().mean() / wanted.var())


def test_the_start_is_better_than_random_and_its_channels_are_in_order(
    make_network: Make, quarters: ImageSet, quarters_test: ImageSet
) -> None:
    network = make_network(cut="stage2")
    before = [_error(network, quarters_test, width_index) for width_index in range(4)]
    assert 0.0 < start_linearly(network, torch.from_numpy(quarters.images)) < 1.0
    after = [_error(network, quarters_test, width_index) for width_index in range(4)]
    assert after[3] < 0.8 * before[3]
    assert all(late < early for late, early in zip(after, before, strict=True))
    errors = [_error(network, quarters_test, 3, channels) for channels in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


def test_a_bottleneck_it_does_not_fit_is_one_line(make_network: Make, quarters: ImageSet) -> None:
    pixels = torch.from_numpy(quarters.images)
    with pytest.raises(InputError, match=r"linear_start: the cut's plane \(8, 8\) must be"):
        start_linearly(make_network(cut="stage1"), pixels)
    with pytest.raises(InputError, match="at least 16 channels wide"):
        start_linearly(make_network(decoder_channels=8), pixels)
