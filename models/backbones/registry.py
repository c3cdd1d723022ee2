"""Turn a model reference into a network: a name of ours, or `path/to/file.py:factory` of the user's."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import nn

from isthmus.models.backbones.catalogue import MODELS
from isthmus.runtime.errors import InputError


def make_model(
    ref: str, num_classes: int, in_channels: int, *, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Return the untrained network that `ref` names.

    Args:
        ref: A key of `MODELS`, or `path/to/file.py:factory`; the factory is called with those of
            `num_classes`, `in_channels` and, if given, `image_size` that it takes, and returns an
            `nn.Module`.
        num_classes: Length of the logits.
        in_channels: Channels of the image.
        image_size: Height and width of the images, for networks that depend on them; None for the network's
            usual size.

    Raises:
        InputError: If the name, the file or the factory is not there, the factory fails, or the network
            cannot have images of this size.
    """
    if ref in MODELS:
        backbone = MODELS[ref]
        size = {"image_size": image_size} if backbone.sized and image_size else {}
        return backbone.make(num_classes=num_classes, in_channels=in_channels, **size)
    file, separator, factory = ref.rpartition(":")
    if not separator or not file.endswith(".py"):
        raise InputError(f"model {ref!r}: give one of {', '.join(MODELS)}, or path/to/file.py:factory")
    offered: dict[str, object] = {"num_classes": num_classes, "in_channels": in_channels}
    if image_size is not None:
        offered["image_size"] = image_size
    return _call(_factory(Path(file), factory), ref, offered)


def _factory(path: Path, name: str) -> Callable[..., object]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --model path/to/file.py:factory")
    module = _load(path)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(
            f"{path}: has no function {name!r}; give --model {path}:NAME of one that returns the network"
        )
    return factory  # type: ignore[no-any-return]


def _load(path: Path) -> ModuleType:
    # A name of its own per path: the user's file may be called like any module of ours.
    name = "isthmus_user_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickles inside the file look themselves up there
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the user's file: whatever it raises is about that file
        del sys.modules[name]
        raise InputError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from None
    return module


def _call(factory: Callable[..., object], ref: str, offered: dict[str, object]) -> nn.Module:
    try:
        parameters = inspect.signature(factory).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = {parameter.name for parameter in parameters}
        network = factory(**{name: value for name, value in offered.items() if takes_any or name in names})
    except Exception as error:  # the user's code
        raise InputError(f"model {ref!r}: the factory failed: {type(error).__name__}: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model {ref!r}: the factory returned a {type(network).__name__}, not a torch.nn.Module"
        )
    return network
