"""Every kind of bottleneck goes through the one trainer, with the recipe that is its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.cli._train_flags import train_settings, whole_configuration
from isthmus.models.backbones import make_model
from isthmus.models.design import BottleneckSize, design
from isthmus.models.evaluate import evaluate
from isthmus.models.network import SplitNetwork, tensor_digest
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import trained_digest
from isthmus.models.settings import TrainSettings
from isthmus.models.train import train_bottleneck
from isthmus.runtime.datasets import ImageSet

SIZES: dict[str, dict[str, Any]] = {
    "slim": {"decoder_channels": 16, "decoder_blocks": 1},
    "bottlefit": {"structure": {"hidden": 16, "decoder_hidden": 16}},
    "entropic": {"structure": {"decoder_hidden": (16, 16)}},
    "ensemble": {"encoder": ((16, 1), (32, 0)), "decoder_channels": 16, "decoder_blocks": 1},
}
RECIPES = {"slim": "small-grey", "bottlefit": "bottlefit", "entropic": "entropic", "ensemble": "ensemble"}


def _size(family: str) -> BottleneckSize:
    values: dict[str, Any] = {"channels": 8, "encoder": ((8, 1), (8, 0)), "exit_channels": 0}
    return BottleneckSize(**{**values, "family": family, **SIZES[family]})


def _recipe(family: str, **changes: Any) -> TrainSettings:
    given = {"recipe": RECIPES[family], "precision": "float32", "device": "cpu", "batch_size": 20, **changes}
    return train_settings(whole_configuration(given, (16, 16, 1)), (16, 16, 1))


@pytest.fixture
def make(make_network: Callable[..., SplitNetwork]) -> Callable[..., SplitNetwork]:
    """Return `make(family, seed=0)`: an untrained small network of that family."""

    def build(family: str, seed: int = 0) -> SplitNetwork:
        size = _size(family)
        fields = {name: getattr(size, name) for name in BottleneckSize.__dataclass_fields__}
        return make_network(seed=seed, **fields)

    return build


@pytest.mark.parametrize("family", RECIPES)
def test_every_family_learns_by_its_own_recipe(
    make: Callable[..., SplitNetwork], quarters: ImageSet, quarters_test: ImageSet, family: str
) -> None:
    network, seen = make(family), list[TrainProgress]()
    settings = _recipe(family, epochs=16, learning_rate=5e-3)
    train_bottleneck(network, quarters, settings, progress=seen.append)
    first, last = (sum(now.terms["features0"] for now in part) for part in (seen[:8], seen[56:64]))
    assert last < 0.7 * first
    points = evaluate(network, quarters_test).points
    assert max(point.agreement for point in points) > 0.8


@pytest.mark.parametrize("family", RECIPES)
def test_every_family_resumes_exactly(
    make: Callable[..., SplitNetwork], quarters: ImageSet, tmp_path: Path, family: str
) -> None:
    settings = _recipe(family, epochs=2)
    whole = make(family, seed=1)
    train_bottleneck(whole, quarters, settings)
    for stops in (3, 9, None):  # within the first epoch, in stage 2, to the end
        answers = None if stops is None else iter([False] * (stops - 1) + [True])
        network = make(family, seed=1 if stops == 3 else 5)
        train_bottleneck(
            network,
            quarters,
            settings,
            out=tmp_path,
            resume=stops != 3,
            stop=None if answers is None else answers.__next__,
        )
    assert trained_digest(network) == trained_digest(whole)


def test_the_entropic_students_encoder_is_frozen_in_stage_two(
    make: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    network, digests = make("entropic"), list[tuple[str, str]]()
    train_bottleneck(
        network,
        quarters,
        _recipe("entropic", epochs=4),
        epoch_done=lambda _: digests.append((_weights(network.encoder), _weights(network.decoder))),
    )
    encoders, decoders = zip(*digests, strict=True)
    assert encoders[0] != encoders[1] == encoders[2] == encoders[3]
    assert len(set(decoders)) == 4


def test_tokens_of_a_transformer(quarters: ImageSet) -> None:
    teacher = make_model("deit-tiny", 4, 3, image_size=(32, 32)).eval()
    labels = [str(number) for number in range(4)]
    size = BottleneckSize(family="token", channels=8, exit_channels=0)
    images = torch.from_numpy(quarters.images[:12]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    pixels = images.expand(-1, -1, -1, 3).contiguous().numpy()
    config = design("deit-tiny", teacher, cut="blocks.2", shape_hwc=(32, 32, 3), labels=labels, size=size)
    network = SplitNetwork(config, teacher)
    small = ImageSet(images=pixels, labels=quarters.labels[:12], classes=tuple(labels), name="tokens")
    result = train_bottleneck(network, small, TrainSettings(epochs=4, batch_size=8))
    assert result.steps == 4
    assert 0.0 <= evaluate(network, small).points[-1].agreement <= 1.0


def _weights(module: torch.nn.Module) -> str:
    return tensor_digest(torch.nn.ParameterList(value for value in module.parameters()))
