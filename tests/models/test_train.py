import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isthmus.models.evaluate import evaluate
from isthmus.models.network import SplitNetwork, tensor_digest
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import METRICS, STATE, open_run
from isthmus.models.schedule import Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.train import train_bottleneck
from isthmus.models.trainer import BottleneckTrainer, StepResult
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import ArtifactError, GateError, InputError


class _StoppedError(Exception):
    pass


def _digests(network: SplitNetwork) -> list[str]:
    return [
        tensor_digest(part) for part in (network.encoder, network.quantiser, network.decoder, network.tail)
    ]


def test_a_trained_bottleneck_follows_its_teacher_at_every_point(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, quarters_test: ImageSet
) -> None:
    network = make_network()
    settings = TrainSettings(
        epochs=24, batch_size=32, learning_rate=5e-3, rate=RateTerm(target_bits=((240.0,),))
    )
    result = train_bottleneck(network, quarters, settings)
    assert result.steps == 24 * 5
    found = evaluate(network, quarters_test)
    assert found.teacher > 0.95
    assert [(p.width_index, p.channels) for p in found.points] == [
        (w, c) for w in range(4) for c in (1, 2, 4, 8)
    ]
    full = [point for point in found.points if point.channels == 8]
    assert min(point.accuracy for point in full) > 0.9
    assert all(point.entropy_bytes < 60 for point in found.points)
    per_width = [point.entropy_bytes for point in found.points[:4]]
    assert per_width == sorted(per_width)
    assert max(found.exits) > 0.7


def test_a_resumed_run_is_the_uninterrupted_one(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, tmp_path: Path
) -> None:
    settings = TrainSettings(epochs=4, batch_size=32, rate=RateTerm(target_bits=((200.0,),)))
    whole = make_network(seed=3, tail_tuned=True)
    train_bottleneck(whole, quarters, settings)

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        train_bottleneck(
            make_network(seed=3, tail_tuned=True), quarters, settings, out=tmp_path, epoch_done=stop
        )
    again = make_network(seed=9, tail_tuned=True)  # its own start is overwritten
    result = train_bottleneck(again, quarters, settings, out=tmp_path, resume=True)
    assert _digests(again) == _digests(whole)
    assert result.steps == 20
    assert [json.loads(line)["epoch"] for line in (tmp_path / METRICS).read_text().splitlines()] == [
        0,
        1,
        2,
        3,
    ]


def test_another_seed_is_another_run(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> None:
    networks = [make_network(), make_network()]
    for seed, network in enumerate(networks):
        train_bottleneck(network, quarters, TrainSettings(epochs=1, batch_size=32, seed=seed))
    assert _digests(networks[0]) != _digests(networks[1])


def test_a_state_of_other_settings_or_of_nothing_is_refused(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, tmp_path: Path
) -> None:
    settings = TrainSettings(epochs=1, batch_size=32)
    train_bottleneck(make_network(), quarters, settings, out=tmp_path)
    with (
        pytest.raises(InputError, match="earlier run is here; add --resume"),
        open_run(tmp_path, resume=False),
    ):
        pass
    with (
        open_run(tmp_path, resume=True),
        pytest.raises(InputError, match="another process trains here"),
        open_run(tmp_path, resume=True),
    ):
        pass
    other = TrainSettings(epochs=1, batch_size=32, learning_rate=0.5)
    with pytest.raises(InputError, match=r"settings learning_rate = 0.002, now 0.5 is asked for"):
        train_bottleneck(make_network(), quarters, other, out=tmp_path, resume=True)
    with pytest.raises(InputError, match="config cut = 'stage2', now 'stage1'"):
        train_bottleneck(make_network(cut="stage1"), quarters, settings, out=tmp_path, resume=True)
    (tmp_path / STATE).write_bytes(b"junk")
    with pytest.raises(ArtifactError, match=r"state.pt: not a readable checkpoint"):
        train_bottleneck(make_network(), quarters, settings, out=tmp_path, resume=True)
    with pytest.raises(ArtifactError, match="No such file"):
        train_bottleneck(make_network(), quarters, settings, out=tmp_path / "empty", resume=True)


def test_a_nan_keeps_the_last_good_state(
    make_network: Callable[..., SplitNetwork],
    quarters: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = BottleneckTrainer.step

    def poisoned(self: BottleneckTrainer, batch: torch.Tensor, progress: float, **more: Any) -> StepResult:
        if self.steps == 12:
            with torch.no_grad():
                self.network.encoder.project.weight[0, 0] = float("nan")
        return step(self, batch, progress, **more)

    settings = TrainSettings(epochs=4, batch_size=32)
    with monkeypatch.context() as patch:
        patch.setattr(BottleneckTrainer, "step", poisoned)
        with pytest.raises(GateError, match="step 12: loss term"):
            train_bottleneck(make_network(), quarters, settings, out=tmp_path)
    result = train_bottleneck(make_network(), quarters, settings, out=tmp_path, resume=True)
    assert result.steps == 20


def test_progress_counts_every_step(make_network: Callable[..., SplitNetwork], quarters: ImageSet) -> None:
    seen: list[TrainProgress] = []
    train_bottleneck(make_network(), quarters, TrainSettings(epochs=2, batch_size=40), progress=seen.append)
    assert [now.step for now in seen] == list(range(1, 9))
    assert [now.epoch for now in seen] == [0] * 4 + [1] * 4
    assert seen[-1].fraction == 1.0
    assert seen[-1].remaining_s == 0.0
    assert seen[3].fraction == pytest.approx(0.5)
    assert seen[3].remaining_s == pytest.approx(seen[3].elapsed_s)


def test_time_ends_a_run_annealed(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("isthmus.models.progress.time.monotonic", lambda: now[0])
    seen: list[float] = []

    def second_passes(progress: TrainProgress) -> None:
        now[0] += 1.0
        seen.append(progress.fraction)

    network = make_network()
    settings = TrainSettings(epochs=100, batch_size=32)
    result = train_bottleneck(network, quarters, settings, max_minutes=0.2, progress=second_passes)
    assert result.steps == 12
    assert result.elapsed_s == pytest.approx(12.0)
    assert seen == sorted(seen)
    assert seen[-1] > 0.9
    network.codes(torch.from_numpy(quarters.images[:2]), 0)  # calibrated all the same


def test_metrics_of_a_run_that_left_no_state_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("{}\n")
    with open_run(tmp_path, resume=False):
        pass
    assert not (tmp_path / METRICS).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "0 epochs: give at least 1"),
        ({"batch_size": 1}, "batches of 1; BatchNorm needs at least 2"),
        ({"batch_size": 6}, "in batches of 6 images some of 4 widths would have fewer than 2"),
        ({"schedule": Schedule(width_shares=(0.6, 0.4))}, "width_shares 0.6,0.4: in batches of 128 images"),
    ],
)
def test_useless_settings_are_refused(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_bottleneck(make_network(), quarters, TrainSettings(**{"epochs": 1, **changes}))


def test_images_of_another_shape_are_refused(
    make_network: Callable[..., SplitNetwork], quarters: ImageSet
) -> None:
    other = ImageSet(
        images=quarters.images[:, :8, :8], labels=quarters.labels, classes=quarters.classes, name="eight"
    )
    with pytest.raises(InputError, match=r"eight: images are \(8, 8, 1\), the network takes \(16, 16, 1\)"):
        train_bottleneck(make_network(), other, TrainSettings(epochs=1))
