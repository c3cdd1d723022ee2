from collections.abc import Callable

import torch

from isthmus.models.augment import Augmentation
from isthmus.models.families.layers import SlimBatchNorm2d
from isthmus.models.network import SplitNetwork
from isthmus.models.width_statistics import calibrate
from isthmus.runtime.datasets import ImageSet


def _means(network: SplitNetwork) -> torch.Tensor:
    norm = next(layer for layer in network.encoder.modules() if isinstance(layer, SlimBatchNorm2d))
    return norm.mean.clone()


def test_statistics_are_of_the_images_as_they_are_trained_on(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network, darker = make_network(), Augmentation(shift=8)
    calibrate(network, quarters)
    plain = _means(network)
    calibrate(network, quarters, augmentation=Augmentation())
    assert torch.equal(_means(network), plain)
    calibrate(network, quarters, augmentation=darker, seed=1)
    shifted = _means(network)
    assert not torch.allclose(shifted, plain, atol=1e-3)
    calibrate(network, quarters, augmentation=darker, seed=1)
    assert torch.equal(_means(network), shifted)


def test_the_widests_statistics_for_all(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network = make_network()
    calibrate(network, quarters, kind="widest")
    means = _means(network)
    assert torch.equal(means, means[-1:].expand_as(means))
    assert means.abs().max() > 0
