from collections.abc import Callable
from typing import Any

import pytest
import torch

from isthmus.models.augment import Augmentation
from isthmus.models.evaluate import evaluate
from isthmus.models.exit_training import train_exit
from isthmus.models.network import SplitNetwork, tensor_digest
from isthmus.models.train import TrainSettings, train_bottleneck
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import GateError


def _train(network: SplitNetwork, images: ImageSet, **changes: Any) -> None:
    values: dict[str, Any] = {
        "epochs": 6,
        "learning_rate": 1e-2,
        "temperature": 2.0,
        "augmentation": Augmentation(),
        "seed": 0,
    }
    train_exit(network, torch.from_numpy(images.images), **{**values, **changes})


def test_the_exit_learns_on_every_width_and_nothing_else_changes(
    calibrated: SplitNetwork, quarters: ImageSet, quarters_test: ImageSet
) -> None:
    before = evaluate(calibrated, quarters_test)
    parts = (calibrated.encoder, calibrated.quantiser, calibrated.decoder, calibrated.teacher)
    digests = [tensor_digest(part) for part in parts]
    seen: list[tuple[int, int, float]] = []
    _train(calibrated, quarters, epochs=25, progress=lambda *now: seen.append(now))
    after = evaluate(calibrated, quarters_test)
    assert max(before.exits) < 0.6
    assert min(after.exits) > 0.8
    assert after.points == before.points
    assert [tensor_digest(part) for part in parts] == digests
    assert [step for step, _, _ in seen] == list(range(1, 51))
    assert seen[-1][1] == 50
    assert seen[-1][2] < seen[0][2]


def test_the_seed_decides(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> None:
    digests = []
    for seed in (1, 1, 2):
        network = make_network()
        network.calibrate([torch.from_numpy(quarters.images)])
        _train(network, quarters, epochs=1, seed=seed)
        assert network.exit_head is not None
        digests.append(tensor_digest(network.exit_head))
    assert digests[0] == digests[1] != digests[2]


def test_without_exit_or_epochs_nothing_happens(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    _train(make_network(exit_channels=0), quarters)
    network = make_network()
    digest = tensor_digest(network)
    _train(network, quarters, epochs=0)
    assert tensor_digest(network) == digest


def test_an_uncalibrated_encoder_or_a_nan_is_refused(
    make_network: Callable[..., SplitNetwork], calibrated: SplitNetwork, quarters: ImageSet
) -> None:
    with pytest.raises(GateError, match="no BatchNorm statistics"):
        _train(make_network(), quarters)
    assert calibrated.exit_head is not None
    with torch.no_grad():
        calibrated.exit_head.linear.bias.fill_(float("nan"))
    with pytest.raises(GateError, match="step 0 of the early exit: the loss is nan"):
        _train(calibrated, quarters)


def test_a_training_ends_with_the_exit_alone(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    seen = []
    network = make_network()
    settings = TrainSettings(epochs=1, batch_size=32, exit_epochs=3)
    result = train_bottleneck(network, quarters, settings, progress=seen.append)
    assert result.steps == 5
    alone = [now for now in seen if "exit alone" in now.terms]
    assert [now.epoch for now in alone] == [0, 0, 1, 1, 2, 2]
    assert alone[-1].fraction == 1.0
    assert seen[: len(seen) - 6] == [now for now in seen if "features0" in now.terms]
