"""Every family goes through the one trainer, the one export and the one coder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from isthmus.models.backbones.transformer import Deit
from isthmus.models.design import BottleneckSize
from isthmus.models.export import export_bundle
from isthmus.models.network import SplitNetwork
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.train import train_bottleneck
from isthmus.runtime.datasets import ImageSet

NO_RATE = RateTerm(price=(0.0,))
SETTINGS: dict[str, dict[str, Any]] = {
    "slim": {},
    "bottlefit": {"quantisation": "none", "nested": None, "rate": NO_RATE},
    "entropic": {"quantisation": "noise", "nested": None},
    "ensemble": {"rate": NO_RATE},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", SETTINGS)
def test_a_family_learns_and_is_exported(
    family: str,
    quarters: ImageSet,
    make_teacher: Callable[[], nn.Module],
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
    tmp_path: Path,
) -> None:
    network = make_split(make_teacher(), "stage2", (16, 16, 1), tiny_size(family), quarters.classes)
    torch.manual_seed(0)
    train_bottleneck(network, quarters, TrainSettings(epochs=12, batch_size=16, **SETTINGS[family]))
    bundle = export_bundle(network, tmp_path / "bundle", train=quarters)
    config = network.config
    points = bundle.points.records
    assert len(points) == len(config.widths) * len(config.channel_counts)
    best = max(point.utility for point in points)
    assert best > 0.8  # of four classes
    widest = [point for point in points if point.point.width_index == len(config.widths) - 1]
    sizes = [point.bytes_mean for point in widest]
    assert sizes == sorted(sizes)


def test_tokens_are_learned(
    quarters: ImageSet,
    tiny_size: Callable[..., BottleneckSize],
    make_split: Callable[..., SplitNetwork],
) -> None:
    pixels = quarters.images.repeat(2, axis=1).repeat(2, axis=2)
    images = ImageSet(images=pixels, labels=quarters.labels, classes=quarters.classes, name="large quarters")
    torch.manual_seed(0)
    teacher = Deit(4, 1, (32, 32), width=24, depth=2, heads=3).eval()
    network = make_split(teacher, "blocks.0", (32, 32, 1), tiny_size("token"), quarters.classes)
    seen: list[float] = []
    settings = TrainSettings(epochs=3, batch_size=16)
    train_bottleneck(
        network, images, settings, progress=lambda now: seen.append(now.terms.get("features0", 1.0))
    )
    assert seen[-1] < 0.7 * seen[0]
