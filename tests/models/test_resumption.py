import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.models.augment import Augmentation, Mixing
from isthmus.models.checkpoint import read_tensors, write_tensors
from isthmus.models.network import SplitNetwork
from isthmus.models.progress import TrainProgress
from isthmus.models.run_state import METRICS, PREVIOUS_STATE, STATE, trained_digest
from isthmus.models.schedule import Schedule
from isthmus.models.settings import RateTerm, TrainSettings
from isthmus.models.train import TrainResult, train_bottleneck
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import ArtifactError, GateError, InputError

Make = Callable[..., SplitNetwork]
# Everything that has a state or draws random numbers at once; five steps an epoch.
EVERYTHING = TrainSettings(
    epochs=4,
    batch_size=32,
    rate=RateTerm(target_bits=((40.0, 80.0, 120.0, 160.0),)),
    answer_optimiser="sgd",
    answer_learning_rate=1e-3,
    answer_loss="alpha",
    label_weight=0.1,
    prefix_power=0.5,
    in_place=True,
    quantisation="noise-round",
    schedule=Schedule(full_width=0.2, ramp=0.2, features=0.6),
    augmentation=Augmentation(shift=1, flip=True, crop_scale=0.6, jitter=0.2),
    mixing=Mixing(mixup=0.3, cutmix=1.0),
    average=0.9,
    exit_epochs=1,
)


class _KilledError(Exception):
    pass


def _killed_at(step: int) -> Callable[[TrainProgress], None]:
    def progress(now: TrainProgress) -> None:
        if now.step == step:
            raise _KilledError

    return progress


_WHOLE: list[str] = []


@pytest.fixture
def whole(make_network: Make, quarters: ImageSet) -> str:
    """The digest of the uninterrupted run, which is trained once."""
    if not _WHOLE:
        network = make_network(seed=3, tail_tuned=True)
        train_bottleneck(network, quarters, EVERYTHING)
        _WHOLE.append(trained_digest(network))
    return _WHOLE[0]


@pytest.fixture
def go_on(make_network: Make, quarters: ImageSet, tmp_path: Path) -> Callable[..., tuple[TrainResult, str]]:
    """Return `go_on(**options)`: the run in `tmp_path`, resumed by a network with another start."""

    def train(**options: object) -> tuple[TrainResult, str]:
        network = make_network(seed=9, tail_tuned=True)
        result = train_bottleneck(
            network,
            quarters,
            EVERYTHING,
            out=tmp_path,
            resume=True,
            **options,  # type: ignore[arg-type]
        )
        return result, trained_digest(network)

    return train


@pytest.fixture
def killed(make_network: Make, quarters: ImageSet, tmp_path: Path) -> Callable[[int], None]:
    """Return `killed(step)`: a run in `tmp_path` that keeps a state after each step and dies after `step`."""

    def train(step: int) -> None:
        with pytest.raises(_KilledError):
            train_bottleneck(
                make_network(seed=3, tail_tuned=True),
                quarters,
                EVERYTHING,
                out=tmp_path,
                state_minutes=0.0,
                progress=_killed_at(step),
            )

    return train


def test_another_start_is_another_end(make_network: Make, quarters: ImageSet, whole: str) -> None:
    other = make_network(seed=9, tail_tuned=True)
    train_bottleneck(other, quarters, EVERYTHING)
    assert trained_digest(other) != whole


# In the first epoch, at an epoch's end, in its middle, after stage 2 began with another optimiser.
@pytest.mark.parametrize("step", [2, 5, 8, 14])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    killed: Callable[[int], None], go_on: Callable[..., tuple[TrainResult, str]], whole: str, step: int
) -> None:
    killed(step)
    result, digest = go_on()
    assert digest == whole
    assert result.steps == 20


def test_a_run_may_be_told_to_stop_again_and_again(
    killed: Callable[[int], None],
    go_on: Callable[..., tuple[TrainResult, str]],
    whole: str,
    tmp_path: Path,
) -> None:
    killed(3)
    for wanted in (5, 8, 11):
        result, _ = go_on(stop=iter([False, False, True]).__next__)
        assert (result.steps, result.finished) == (wanted, False)
    result, digest = go_on()
    assert (digest, result.finished) == (whole, True)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(line["epoch"], line["steps"]) for line in lines] == [(0, 5), (1, 10), (2, 15), (3, 20)]


def test_a_resumed_epochs_means_are_those_of_the_whole(
    make_network: Make,
    quarters: ImageSet,
    killed: Callable[[int], None],
    go_on: Callable[..., tuple[TrainResult, str]],
    tmp_path: Path,
) -> None:
    killed(8)
    go_on()
    train_bottleneck(make_network(seed=3, tail_tuned=True), quarters, EVERYTHING, out=tmp_path / "whole")

    def records(folder: Path) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "elapsed_s"} for line in lines]

    assert records(tmp_path) == records(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["absent", "empty", "half"])
def test_a_death_while_the_state_was_written_leaves_the_one_before(
    killed: Callable[[int], None],
    go_on: Callable[..., tuple[TrainResult, str]],
    whole: str,
    tmp_path: Path,
    damage: str,
) -> None:
    killed(8)
    state = tmp_path / STATE
    content = state.read_bytes()
    (tmp_path / (STATE + ".partial")).write_bytes(content[:100])
    if damage == "absent":  # between the two renames
        state.unlink()
    else:
        state.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    assert go_on()[1] == whole


def test_without_any_good_state_there_is_one_line(
    killed: Callable[[int], None], go_on: Callable[..., tuple[TrainResult, str]], tmp_path: Path
) -> None:
    killed(2)
    for name in (STATE, PREVIOUS_STATE):
        (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(ArtifactError, match=r"state\.previous\.pt: not a readable checkpoint"):
        go_on()


def test_a_full_disk_is_one_line_and_the_last_good_state_is_kept(
    killed: Callable[[int], None],
    go_on: Callable[..., tuple[TrainResult, str]],
    whole: str,
    tmp_path: Path,
) -> None:
    killed(7)
    before = (tmp_path / STATE).read_bytes()
    (tmp_path / (STATE + ".partial")).symlink_to("/dev/full")
    with pytest.raises(
        InputError, match=r"state\.pt: No space left on device; what was saved before is kept"
    ):
        go_on()
    assert (tmp_path / STATE).read_bytes() == before
    assert go_on()[1] == whole


def test_a_resumed_network_is_not_calibrated_until_it_is_finished(
    make_network: Make, quarters: ImageSet, killed: Callable[[int], None], tmp_path: Path
) -> None:
    import torch

    killed(7)
    network = make_network(seed=9, tail_tuned=True)
    train_bottleneck(network, quarters, EVERYTHING, out=tmp_path, resume=True, stop=lambda: True)
    with pytest.raises(GateError, match="calibrate the network before"):
        network.eval().codes(torch.from_numpy(quarters.images[:2]), 0)


def test_a_stop_at_the_end_of_an_epoch_leaves_nothing_of_it_out(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    last = EVERYTHING.epochs * 5  # steps
    done: list[int] = []

    def train(*, until: int, resume: bool) -> TrainResult:
        steps = 0

        def progress(now: TrainProgress) -> None:
            nonlocal steps
            steps = now.step

        return train_bottleneck(
            make_network(seed=3, tail_tuned=True),
            quarters,
            EVERYTHING,
            out=tmp_path,
            resume=resume,
            progress=progress,
            stop=lambda: steps >= until,
            epoch_done=done.append,
        )

    assert not train(until=5, resume=False).finished
    assert done == [0]
    assert train(until=10 * last, resume=True).finished
    assert done == list(range(EVERYTHING.epochs))


def test_which_tensors_were_started_a_resumption_knows_from_the_state(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    settings = dataclasses.replace(EVERYTHING, start_rate=0.1)
    network = make_network(seed=3, tail_tuned=True)
    started = [name for name, _ in network.named_parameters() if name.startswith("encoder")][:2]
    whole, parts = make_network(seed=3, tail_tuned=True), make_network(seed=3, tail_tuned=True)
    train_bottleneck(whole, quarters, settings, started=started)
    with pytest.raises(_KilledError):
        train_bottleneck(
            parts,
            quarters,
            settings,
            out=tmp_path,
            state_minutes=0.0,
            progress=_killed_at(8),
            started=started,
        )
    again = make_network(seed=9, tail_tuned=True)
    train_bottleneck(again, quarters, settings, out=tmp_path, resume=True)
    assert trained_digest(again) == trained_digest(whole)


def test_a_setting_that_was_taken_away_is_refused(
    make_network: Make, quarters: ImageSet, tmp_path: Path
) -> None:
    settings = TrainSettings(epochs=1, batch_size=32)
    network = make_network()
    train_bottleneck(network, quarters, settings, out=tmp_path)
    state = read_tensors(tmp_path / STATE)
    state["config"]["structure"] = {"skipped": [[1], []]}
    write_tensors(state, tmp_path / STATE)
    with pytest.raises(InputError, match=r"config structure.skipped = \[\[1\], \[\]\], now None"):
        train_bottleneck(make_network(), quarters, settings, out=tmp_path, resume=True)
