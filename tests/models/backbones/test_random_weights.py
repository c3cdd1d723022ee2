import pytest
import torch
from torch import nn

from isthmus.models.backbones import make_model, randomise
from isthmus.models.backbones.random_weights import noise_images
from isthmus.runtime.errors import InputError

SHAPE = (3, 64, 64)


def _spread(network: nn.Module) -> float:
    """Deviation of the difference between two images' logits, by that of the logits."""
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        logits = network.eval()(images)
    return float((logits[0] - logits[1]).std() / logits.std())


@pytest.mark.parametrize("ref", ["mobilenet-v3-large", "efficientnet-b0", "deit-tiny", "resnet18"])
def test_logits_differ_between_images(ref: str) -> None:
    network = make_model(ref, 10, 3, image_size=(64, 64))
    randomise(network, SHAPE)
    assert _spread(network) > 0.1
    with torch.no_grad():
        logits = network(noise_images(8, SHAPE, torch.Generator().manual_seed(123)))
    assert 0.2 < float(logits.std()) < 15


def test_rounding_errors_stay_small_through_many_layers() -> None:
    network = make_model("resnet101", 10, 3)
    randomise(network, SHAPE)
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        single = network(images).double()
        double = network.double()(images.double())
    assert (single - double).abs().max() < 3e-5 * double.abs().max()


def test_fresh_weights_would_not_do() -> None:
    torch.manual_seed(0)
    network = make_model("mobilenet-v3-large", 10, 3).eval()
    with torch.no_grad():
        assert network(torch.randn(2, *SHAPE)).abs().max() < 0.01


def test_the_seed_decides() -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        network = make_model("mobilenet-v2", 10, 3)
        randomise(network, SHAPE, seed=seed)
        return network.state_dict()

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.0.weight"], other["features.0.0.weight"])


def test_norms_see_the_statistics_they_were_given() -> None:
    network = make_model("resnet18", 10, 3)
    randomise(network, SHAPE)
    seen: list[torch.Tensor] = []
    network.get_submodule("layer4.1.bn2").register_forward_hook(
        lambda norm, given, made: seen.append((made - norm.bias[:, None, None]) / norm.weight[:, None, None])
    )
    with torch.no_grad():
        network(noise_images(8, SHAPE, torch.Generator().manual_seed(77)))
    assert not network.training
    assert seen[0].mean().abs() < 0.3
    assert 0.6 < seen[0].std() < 1.6


def test_a_network_that_ignores_its_input_is_refused() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.ones(len(x), 3))

    with pytest.raises(InputError, match="Constant: its last layer answers alike"):
        randomise(Constant(), SHAPE)
    with pytest.raises(InputError, match="Flatten: has no linear layer or convolution"):
        randomise(nn.Flatten(), SHAPE)
