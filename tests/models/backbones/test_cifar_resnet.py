import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isthmus.models.backbones import load_weights, make_model
from isthmus.models.backbones.cifar_resnet import CifarResNet, PadShortcut
from isthmus.models.network import Normalise
from isthmus.runtime.datasets import ImageSet, load_dataset

DATA = Path(os.environ.get("ISTHMUS_DATA", "../shared/data"))
WEIGHTS = DATA / "weights/cifar10_akamaster"


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (56, 853_018), (110, 1_727_962)])
def test_parameter_counts(depth: int, parameters: int) -> None:
    # He et al. 2015, table 6: 0.27 M, 0.85 M and 1.7 M.
    network = make_model(f"cifar-resnet{depth}", 10, 3)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_keys_are_those_of_the_checkpoints_in_circulation() -> None:
    keys = set(CifarResNet(20).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer3.2.bn2.bias",
        "linear.bias",
    } <= keys
    assert not [key for key in keys if "shortcut" in key]
    assert len([key for key in keys if key.endswith("weight")]) == 2 * 19 + 1


def test_the_shortcut_takes_every_second_pixel_and_pads_channels() -> None:
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    found = PadShortcut(4)(x)
    assert found.shape == (1, 6, 2, 2)
    assert torch.equal(found[:, 2:4], x[:, :, ::2, ::2])
    assert found[:, [0, 1, 4, 5]].abs().max() == 0


def test_an_odd_number_of_missing_channels_is_padded_fully() -> None:
    assert PadShortcut(3)(torch.ones(1, 2, 4, 4)).shape == (1, 5, 2, 2)


@pytest.mark.data
@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"{WEIGHTS} is not here; set ISTHMUS_DATA")
def test_published_weights_reach_their_accuracy(
    share_right: Callable[[torch.nn.Module, ImageSet], float],
) -> None:
    network = make_model("cifar-resnet20", 10, 3)
    load_weights(network, WEIGHTS / "resnet20-12fca82f.th")
    images = load_dataset(f"npz:{DATA / 'cifar10/test.npz'}", split="test", limit=300)
    normalise = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    # 91.6 % on 2,271 images; 300 images leave three standard errors of 4.8 points.
    assert share_right(torch.nn.Sequential(normalise, network.eval()), images) > 0.868
