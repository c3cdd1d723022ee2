"""Turn a model reference into a network: a name of ours, or `path/to/file.py:factory` of the user's."""

from __future__ import annotations

import inspect
from pathlib import Path

from torch import nn

from isthmus.models.backbones.catalogue import MODELS
from isthmus.models.backbones.user_code import beside, load_file, one_line
from isthmus.runtime.errors import InputError


def make_model(
    ref: str, num_classes: int, in_channels: int, *, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Return the untrained network that `ref` names.

    Args:
        ref: A key of `MODELS`, or `path/to/file.py:factory`; the factory is called with those of
            `num_classes`, `in_channels` and, if given, `image_size` that it takes, and returns an
            `nn.Module`. It may also be a module already, which is then taken as it is.
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
    return _user_network(ref, Path(file), factory, offered)


def _user_network(ref: str, path: Path, name: str, offered: dict[str, object]) -> nn.Module:
    factory = getattr(load_file(path), name, None)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(
            f"{path}: has no function or network {name!r}; give --model {path}:NAME of a torch.nn.Module, or "
            "of a function or class that makes one"
        )
    try:
        parameters = inspect.signature(factory).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = {parameter.name for parameter in parameters}
        with beside(path):
            network = factory(**{key: value for key, value in offered.items() if takes_any or key in names})
    except (Exception, SystemExit) as error:  # the user's code
        raise InputError(f"model {ref!r}: the factory failed: {one_line(error)}") from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model {ref!r}: the factory returned a {type(network).__name__}, not a torch.nn.Module"
        )
    return network
