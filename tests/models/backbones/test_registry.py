from pathlib import Path

import pytest
import torch

from isthmus.models.backbones import MODELS, make_model
from isthmus.runtime.errors import InputError

USER = """
import torch
from torch import nn
from dataclasses import dataclass

@dataclass
class Size:
    hidden: int = 4

def fixed():
    return nn.Linear(2, 7)

def sized(num_classes):
    return nn.Linear(Size().hidden, num_classes)

def anything(**options):
    return nn.Conv2d(options["in_channels"], options["num_classes"], 1)

def wrong():
    return 3

def broken():
    raise RuntimeError("out of\\nparameters")

def leaves():
    raise SystemExit(3)

class Net(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(4, num_classes)

number = 5
ready = nn.Linear(3, 3)
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"  # the name of one of our rooms
    path.write_text(USER)
    return path


@pytest.mark.parametrize(
    ("ref", "shape"), [("cifar-resnet20", (1, 3, 32, 32)), ("digits-cnn", (1, 1, 32, 32))]
)
def test_ours_take_classes_and_channels(ref: str, shape: tuple[int, ...]) -> None:
    assert make_model(ref, 7, shape[1]).eval()(torch.zeros(shape)).shape == (1, 7)


def test_the_users_factory_gets_what_it_asks_for(user_file: Path) -> None:
    shapes = [
        tuple(make_model(f"{user_file}:{name}", 9, 3).state_dict()["weight"].shape)
        for name in ("fixed", "sized", "anything", "Net")
    ]
    assert shapes == [(7, 2), (9, 4), (9, 3, 1, 1), (9, 4)]


def test_a_module_is_taken_as_it_is_and_made_anew(user_file: Path) -> None:
    first, second = (make_model(f"{user_file}:ready", 9, 3) for _ in range(2))
    assert isinstance(first, torch.nn.Linear)
    assert first is not second


def test_a_users_module_never_hides_ours(user_file: Path) -> None:
    make_model(f"{user_file}:fixed", 9, 3)
    import isthmus.models.backbones as ours

    assert ours.MODELS is MODELS


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("resnet9000", "model 'resnet9000': give one of cifar-resnet20, .*, or path/to/file.py:factory"),
        ("missing.py:make", "missing.py: no such file"),
        ("{file}:absent", "has no function or network 'absent'; give --model"),
        ("{file}:number", "has no function or network 'number'"),
        ("{file}:wrong", "returned a int, not a torch.nn.Module"),
        ("{file}:broken", "the factory failed: RuntimeError: out of parameters$"),
        ("{file}:leaves", "the factory failed: SystemExit: 3"),
    ],
)
def test_a_wrong_reference_is_exact(user_file: Path, ref: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make_model(ref.format(file=user_file), 9, 3)
    assert "\n" not in str(error.value)


def test_a_file_that_fails_to_import_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import a_module_nobody_has\n")
    with pytest.raises(InputError, match=r"mine.py: cannot be imported: ModuleNotFoundError"):
        make_model(f"{path}:make", 9, 3)
