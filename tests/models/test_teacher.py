from collections.abc import Callable

import pytest
import torch
from torch import nn

from isthmus.models.network import Normalise, tensor_digest
from isthmus.models.progress import TrainProgress
from isthmus.models.teacher import TeacherSettings, train_teacher
from isthmus.runtime.datasets import ImageSet, load_dataset
from isthmus.runtime.errors import GateError, InputError

QUICK = TeacherSettings(epochs=2, batch_size=32)


def test_a_teacher_learns_its_task(
    quarters_state: dict[str, torch.Tensor],
    quarters_test: ImageSet,
    quarters: ImageSet,
    share_right: Callable[[nn.Module, ImageSet], float],
) -> None:
    seen: list[TrainProgress] = []
    teacher = train_teacher(
        "digits-cnn", quarters, TeacherSettings(epochs=4, batch_size=16), progress=seen.append
    )
    assert not teacher.training
    assert share_right(nn.Sequential(Normalise((0.5,), (0.5,)), teacher), quarters_test) > 0.95
    assert [now.step for now in seen] == list(range(1, 41))
    assert seen[-1].terms["loss"] < seen[0].terms["loss"]
    assert seen[-1].remaining_s == 0.0
    assert all(torch.equal(quarters_state[name], tensor) for name, tensor in teacher.state_dict().items())


def test_the_seed_decides(quarters: ImageSet) -> None:
    digests = [
        tensor_digest(
            train_teacher("digits-cnn", quarters, TeacherSettings(epochs=1, batch_size=32, seed=seed))
        )
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_loss_that_explodes_is_refused(quarters: ImageSet) -> None:
    with pytest.raises(GateError, match=r"step \d+: the teacher's loss is (nan|inf)"):
        train_teacher("digits-cnn", quarters, TeacherSettings(epochs=40, batch_size=16, learning_rate=1e38))


def test_an_unknown_network_is_refused(quarters: ImageSet) -> None:
    with pytest.raises(InputError, match="model 'nothing'"):
        train_teacher("nothing", quarters, QUICK)


@pytest.mark.slow
def test_the_digits_teacher_reaches_98_percent(
    share_right: Callable[[nn.Module, ImageSet], float],
) -> None:
    teacher = train_teacher("digits-cnn", load_dataset("digits", split="train"))
    test = load_dataset("digits", split="test")
    assert share_right(nn.Sequential(Normalise((0.5,), (0.5,)), teacher), test) >= 0.98
