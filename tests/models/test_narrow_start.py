from collections.abc import Callable

import pytest
import torch

from isthmus.models.families.layers import SlimBatchNorm2d
from isthmus.models.narrow_start import start_narrower
from isthmus.models.network import SplitNetwork
from isthmus.models.rate import LatentPrior
from isthmus.models.schedule import Schedule
from isthmus.models.settings import TrainSettings
from isthmus.models.trainer import BottleneckTrainer
from isthmus.runtime.datasets import ImageSet

PRUNED = {
    "family": "pruned",
    "widths": (0.5, 1.0),
    "structure": {"layers": ("conv 3/2 16 relu", "conv 3/2 32 relu"), "private": True},
}


@pytest.mark.parametrize("size", [{}, PRUNED])
@torch.no_grad()
def test_narrower_widths_begin_with_what_the_widest_has(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, size: dict[str, object]
) -> None:
    network = make_network(**size).train()
    config = network.config
    prior = LatentPrior(len(config.widths), config.channels)
    generator = torch.Generator().manual_seed(0)
    for value in (*network.encoder.parameters(), *prior.parameters()):
        value.add_(0.3 * torch.randn(value.shape, generator=generator))
    pixels = torch.from_numpy(quarters.images)
    x_nchw, last = network.normalise(pixels), len(config.widths) - 1

    def distance() -> float:
        wanted, found = network.encoder(x_nchw, last), network.encoder(x_nchw, last - 1)
        return float((found - wanted).square().mean() / wanted.var())

    before = distance()
    widest = network.encoder(x_nchw, last)
    start_narrower(network, prior, pixels)
    assert torch.equal(network.encoder(x_nchw, last), widest)
    assert distance() < before
    assert torch.equal(prior.location, prior.location[-1:].expand_as(prior.location))
    for module in network.encoder.modules():
        if isinstance(module, SlimBatchNorm2d) and module.private:
            assert torch.equal(module.bias, module.bias[-1:].expand_as(module.bias))


def test_the_trainer_does_so_once_after_delayed_shrinking(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network = make_network()
    settings = TrainSettings(epochs=1, batch_size=16, schedule=Schedule(full_width=0.5, features=0.0))
    trainer = BottleneckTrainer(network, settings)
    batch = torch.from_numpy(quarters.images[:16])
    gains = network.encoder.gain.detach()
    gains[-1] = 2.0
    trainer.step(batch, 0.4)
    assert not trainer.narrower
    assert float(gains[0].mean()) == pytest.approx(1.0, abs=0.1)
    trainer.step(batch, 0.5)
    assert trainer.state()["narrower"]
    assert float(gains[0].mean()) == pytest.approx(2.0, abs=0.1)
    gains[0] = 1.0
    trainer.step(batch, 0.6)
    assert float(gains[0].mean()) == pytest.approx(1.0, abs=0.1)
