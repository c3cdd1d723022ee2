from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from isthmus.models.backbones import load_weights, make_model
from isthmus.runtime.errors import InputError


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def write(contents: object) -> Path:
        path = tmp_path / "weights.pt"
        torch.save(contents, path)
        return path

    return write


def _network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("shape", ["plain", "state_dict", "model", "module."])
def test_usual_shapes_of_a_checkpoint_load(save: Callable[[object], Path], shape: str) -> None:
    source = {name: torch.full_like(tensor, 2) for name, tensor in _network().state_dict().items()}
    contents: object = source
    if shape in ("state_dict", "model"):
        contents = {shape: source, "best_accuracy": 93.2}
    elif shape == "module.":
        contents = {"state_dict": {f"module.{name}": tensor for name, tensor in source.items()}}
    network = _network()
    load_weights(network, save(contents))
    assert all(bool((tensor == 2).all()) for tensor in network.state_dict().values())


def test_batch_counters_may_be_missing(save: Callable[[object], Path]) -> None:
    state = {name: tensor for name, tensor in _network().state_dict().items() if "num_batches" not in name}
    load_weights(_network(), save(state))


@pytest.mark.parametrize(
    ("ref", "present", "old"),
    [
        ("densenet121", ".norm1.", ".norm.1."),
        ("densenet121", ".conv2.", ".conv.2."),
        ("vit-b16", ".mlp.0.", ".mlp.linear_1."),
        ("vit-b16", ".mlp.3.", ".mlp.linear_2."),
    ],
)
def test_files_older_than_their_networks_names_load(
    save: Callable[[object], Path], ref: str, present: str, old: str
) -> None:
    with torch.device("meta"):
        names = make_model(ref, 10, 3, image_size=(32, 32)).state_dict()
    network = nn.Module()
    for name, tensor in names.items():
        if present in name:
            _register(network, name, torch.zeros(tensor.shape))
    load_weights(
        network, save({name.replace(present, old): t + 1 for name, t in network.state_dict().items()})
    )
    assert network.state_dict()
    assert all(bool((tensor == 1).all()) for tensor in network.state_dict().values())


def _register(module: nn.Module, path: str, tensor: torch.Tensor) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(module.named_children()):
            module.add_module(parent, nn.Module())
        module = module.get_submodule(parent)
    module.register_buffer(name, tensor)


def test_a_wrong_key_or_shape_is_named(save: Callable[[object], Path]) -> None:
    state = _network().state_dict()
    renamed = {name.replace("0.weight", "0.kernel"): tensor for name, tensor in state.items()}
    with pytest.raises(InputError, match=r"lacks 0.weight, has unknown 0.kernel; give"):
        load_weights(_network(), save(renamed))
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    with pytest.raises(
        InputError, match=r"0.weight has shape \(4, 1, 3, 3\), Sequential needs \(4, 3, 3, 3\)"
    ):
        load_weights(_network(), save(state))


def test_nothing_changes_when_a_shape_is_wrong(save: Callable[[object], Path]) -> None:
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {name: torch.full_like(tensor, 2) for name, tensor in before.items()}
    state["1.bias"] = torch.zeros(5)
    with pytest.raises(InputError):
        load_weights(network, save(state))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({"epoch": 3}, "epoch is no tensor"),
        ({}, "not a state dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(
    save: Callable[[object], Path], contents: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_weights(_network(), save(contents))


def test_code_is_never_executed(save: Callable[[object], Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="not a file of plain tensors"):
        load_weights(_network(), save({"weight": _Evil()}))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("junk", [b"", b"hello", b"PK\x03\x04 cut off"])
def test_junk_is_one_line(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.pt"
    path.write_bytes(junk)
    with pytest.raises(InputError, match=r"junk.pt: not a file of plain tensors") as error:
        load_weights(_network(), path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.pt: No such file or directory"):
        load_weights(_network(), tmp_path / "absent.pt")


class _Wrapped(nn.Module):
    """A network of a user's whose names look like those that published files have."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)
        self.denselayer1 = nn.ModuleDict({"norm": nn.ModuleDict({"1": nn.Linear(2, 2)})})


def test_names_that_fit_stay_as_they_are(save: Callable[[object], Path]) -> None:
    source = {name: torch.full_like(tensor, 3) for name, tensor in _Wrapped().state_dict().items()}
    assert "module.weight" in source
    assert "denselayer1.norm.1.weight" in source
    network = _Wrapped()
    load_weights(network, save({"model_state_dict": source, "epoch": 3}))
    assert all(bool((tensor == 3).all()) for tensor in network.state_dict().values())
