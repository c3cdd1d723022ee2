"""A task of 16×16 grey images that trains in about a second: which quarter of the image is bright."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.models.config import SplitConfig
from isthmus.models.design import BottleneckSize, design
from isthmus.models.network import SplitNetwork
from isthmus.models.teacher import TeacherSettings, train_teacher
from isthmus.runtime.datasets import ImageSet

QUARTERS = ("upper left", "upper right", "lower left", "lower right")


def _draw(count: int, seed: int) -> ImageSet:
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    images = random.integers(0, 90, (count, 16, 16, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 8 * (label // 2), 8 * (label % 2)
        image[row : row + 8, column : column + 8] += 120
    return ImageSet(images=images, labels=labels, classes=QUARTERS, name=f"quarters {seed}")


@pytest.fixture(scope="session")
def quarters() -> ImageSet:
    """160 training images."""
    return _draw(160, seed=1)


@pytest.fixture(scope="session")
def quarters_test() -> ImageSet:
    """80 test images of the same task."""
    return _draw(80, seed=2)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch to one thread: several would wait for each other where other work shares the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def quarters_state(quarters: ImageSet, _one_thread: None) -> dict[str, torch.Tensor]:
    """The state of a `digits-cnn` that was trained on the quarters."""
    teacher = train_teacher("digits-cnn", quarters, TeacherSettings(epochs=4, batch_size=16))
    return {name: tensor.clone() for name, tensor in teacher.state_dict().items()}


@pytest.fixture
def share_right() -> Callable[[nn.Module, ImageSet], float]:
    """Return a function that says which share of images a module (uint8 [n, h, w, c] → logits) gets right."""

    def share(module: nn.Module, images: ImageSet) -> float:
        with torch.no_grad():
            answers = torch.cat([module(part) for part in torch.from_numpy(images.images).split(250)])
        return float((answers.argmax(1).numpy() == images.labels).mean())

    return share


@pytest.fixture
def make_teacher(quarters_state: dict[str, torch.Tensor]) -> Callable[[], nn.Module]:
    """Return a function that makes a fresh, trained teacher."""
    from isthmus.models.backbones import make_model

    def make() -> nn.Module:
        teacher = make_model("digits-cnn", 4, 1)
        teacher.load_state_dict(quarters_state)
        return teacher.eval()

    return make


@pytest.fixture
def make_config(make_teacher: Callable[[], nn.Module]) -> Callable[..., SplitConfig]:
    """Return `make(cut="stage2", tail_tuned=False, **size)`: the config of a small bottleneck."""

    def make(cut: str = "stage2", tail_tuned: bool = False, **size: object) -> SplitConfig:
        values: dict[str, object] = {
            "channels": 8,
            "encoder": ((8, 1), (8, 0)),
            "decoder_channels": 16,
            "decoder_blocks": 1,
            "exit_channels": 8,
        }
        return design(
            "digits-cnn",
            make_teacher(),
            cut=cut,
            shape_hwc=(16, 16, 1),
            labels=QUARTERS,
            size=BottleneckSize(**{**values, **size}),  # type: ignore[arg-type]
            tail_tuned=tail_tuned,
        )

    return make


@pytest.fixture
def make_network(
    make_teacher: Callable[[], nn.Module], make_config: Callable[..., SplitConfig]
) -> Callable[..., SplitNetwork]:
    """Return `make(seed=0, **config)`: an untrained small network around the trained teacher."""

    def make(seed: int = 0, **config: object) -> SplitNetwork:
        built = make_config(**config)
        torch.manual_seed(seed)
        return SplitNetwork(built, make_teacher())

    return make


@pytest.fixture
def calibrated(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> SplitNetwork:
    """A small network, not trained but calibrated, with lively latents and blocks that are no identity."""
    network = make_network()
    with torch.no_grad():
        for name, parameter in network.encoder.named_parameters():
            if name.endswith("norm2.weight"):
                parameter.fill_(0.7)
        network.encoder.gain[0].mul_(1.3)
        network.encoder.bias[1].add_(0.2)
    network.calibrate([torch.from_numpy(quarters.images[:64]), torch.from_numpy(quarters.images[64:])])
    return network.eval()
