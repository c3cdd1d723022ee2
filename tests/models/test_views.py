import dataclasses
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from isthmus.models.augment import Augmentation, Mixing
from isthmus.models.network import SplitNetwork
from isthmus.models.run_state import has_state, trained_digest
from isthmus.models.settings import TrainSettings
from isthmus.models.train import VIEWS, train_bottleneck
from isthmus.models.views import open_views
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import InputError

Make = Callable[..., SplitNetwork]
SETTINGS = TrainSettings(
    epochs=4, batch_size=32, views=2, augmentation=Augmentation(shift=2), mixing=Mixing(cutmix=1.0)
)


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(mixup=1.0)])
def test_the_teacher_said_what_it_is_remembered_by(
    make_network: Make, quarters: ImageSet, tmp_path: Path, mixing: Mixing
) -> None:
    network = make_network()
    pixels = torch.from_numpy(quarters.images)
    settings = TrainSettings(epochs=1, views=3, augmentation=Augmentation(shift=2), mixing=mixing)
    views = open_views(tmp_path / "views", network, pixels, settings)
    chosen = torch.tensor([3, 150, 77])
    seen = views.pixels(2, chosen)
    assert not torch.equal(seen, pixels[chosen])
    assert not torch.equal(seen, views.pixels(1, chosen))
    targets = views.recall(2, chosen, torch.device("cpu"))(4)
    assert len(targets) == len(network.teacher_tail) + 1
    x_nchw = network.normalise(seen)
    with torch.no_grad():
        for found, segment in zip(targets, [network.teacher_head, *network.teacher_tail], strict=True):
            x_nchw = segment(x_nchw)
            torch.testing.assert_close(found.float(), x_nchw, rtol=2e-3, atol=2e-3)


def test_what_no_loss_looks_at_is_not_kept(make_network: Make, quarters: ImageSet, tmp_path: Path) -> None:
    network, pixels = make_network(), torch.from_numpy(quarters.images)
    settings = TrainSettings(epochs=1, views=1, level_weights=(1.0, 0.0))
    views = open_views(tmp_path / "views", network, pixels, settings)
    targets = views.recall(0, torch.tensor([0, 1]), torch.device("cpu"))(3)
    assert [len(target) for target in targets] == [2, 0, 2]
    assert sorted(file.name for file in (tmp_path / "views").glob("*.npy")) == [
        "0.npy",
        "2.npy",
        "pixels.npy",
    ]


def test_unmixed_views_are_of_their_own_images(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    pixels = torch.from_numpy(quarters.images)
    views = open_views(tmp_path / "views", make_network(), pixels, TrainSettings(epochs=1, views=2))
    everything = torch.arange(len(pixels))
    assert torch.equal(views.pixels(0, everything), pixels)
    assert torch.equal(views.pixels(1, everything), pixels)


def test_views_are_drawn_once(make_network: Make, quarters: ImageSet, tmp_path: Path) -> None:
    network, pixels = make_network(), torch.from_numpy(quarters.images)
    drawn: list[int] = []
    for views in (2, 2, 3):
        settings = TrainSettings(epochs=1, views=views)
        open_views(tmp_path / "v", network, pixels, settings, progress=lambda done, _: drawn.append(done))
    assert drawn == [128, 256, 320, 128, 256, 384, 480]


@pytest.mark.parametrize("other", [{"std": (0.25,)}, {"model": "digits-cnn-of-another-padding"}])
def test_views_of_a_network_of_the_same_tensors_are_drawn_anew(
    make_network: Make, quarters: ImageSet, tmp_path: Path, other: dict[str, object]
) -> None:
    pixels, drawn = torch.from_numpy(quarters.images), []
    settings = TrainSettings(epochs=1, views=1)
    first = make_network()
    second = SplitNetwork(dataclasses.replace(first.config, **other), first.teacher)  # type: ignore[arg-type]
    for network in (first, second):
        open_views(tmp_path / "v", network, pixels, settings, progress=lambda done, _: drawn.append(done))
    assert drawn == [128, 160] * 2


def test_an_unfinished_drawing_is_begun_anew(make_network: Make, quarters: ImageSet, tmp_path: Path) -> None:
    network, pixels = make_network(), torch.from_numpy(quarters.images)

    def killed(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_views(tmp_path / "v", network, pixels, SETTINGS, progress=killed)
    resumed = open_views(tmp_path / "v", network, pixels, SETTINGS)
    whole = open_views(tmp_path / "w", network, pixels, SETTINGS)
    everything = torch.arange(len(pixels))
    assert all(torch.equal(resumed.pixels(v, everything), whole.pixels(v, everything)) for v in range(2))


def test_a_run_on_views_learns_and_resumes_exactly(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    whole, resumed = make_network(seed=3), make_network(seed=3)
    train_bottleneck(whole, quarters, SETTINGS, out=tmp_path / "whole")
    answers = iter([False] * 9 + [True])  # the first three while the views are drawn
    stopped = train_bottleneck(resumed, quarters, SETTINGS, out=tmp_path, stop=answers.__next__)
    assert (stopped.finished, stopped.steps) == (False, 7)
    again = make_network(seed=8)
    train_bottleneck(again, quarters, SETTINGS, out=tmp_path, resume=True)
    assert trained_digest(again) == trained_digest(whole)
    assert (tmp_path / VIEWS / "views.json").exists()


def test_no_room_is_one_line(
    make_network: Make, quarters: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("isthmus.models.views.shutil.disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(InputError, match=r"the views need 0\.0 GB and 0\.0 GB are free; give fewer --views"):
        open_views(tmp_path / "v", make_network(), torch.from_numpy(quarters.images), SETTINGS)


def test_views_need_a_place(make_network: Make, quarters: ImageSet) -> None:
    with pytest.raises(InputError, match="2 views need a directory"):
        train_bottleneck(make_network(), quarters, SETTINGS)


def test_runs_that_share_views_draw_them_once(make_network: Make, quarters: ImageSet, tmp_path: Path) -> None:
    shared, own = make_network(seed=3), make_network(seed=3)
    train_bottleneck(own, quarters, SETTINGS, out=tmp_path / "own")
    train_bottleneck(
        make_network(seed=4), quarters, SETTINGS, out=tmp_path / "a", views_folder=tmp_path / "v"
    )
    drawn = (tmp_path / "v" / "pixels.npy").stat().st_mtime_ns
    train_bottleneck(shared, quarters, SETTINGS, out=tmp_path / "b", views_folder=tmp_path / "v")
    assert (tmp_path / "v" / "pixels.npy").stat().st_mtime_ns == drawn
    assert not (tmp_path / "b" / "views").exists()
    assert trained_digest(shared) == trained_digest(own)


def test_a_run_waits_for_another_that_makes_the_views(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    seen: list[int] = []
    other = FileLock(tmp_path / "v.lock")
    other.acquire()

    def progress(done: int, _count: int) -> None:
        seen.append(done)
        other.release()

    open_views(tmp_path / "v", make_network(), torch.from_numpy(quarters.images), SETTINGS, progress=progress)
    assert seen[0] == 0
    assert seen[-1] == SETTINGS.views * len(quarters)


def test_a_run_can_be_stopped_while_its_views_are_drawn(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    result = train_bottleneck(make_network(), quarters, SETTINGS, out=tmp_path, stop=lambda: True)
    assert (result.finished, result.steps) == (False, 0)
    assert not has_state(tmp_path)
