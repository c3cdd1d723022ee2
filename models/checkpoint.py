"""Save and load a trained split network: its config and plain tensors, nothing that could execute.

A checkpoint may leave the teacher out; it then names the digest of the weights that complete it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isthmus.models.backbones import load_weights, make_model
from isthmus.models.config import SplitConfig
from isthmus.models.split_network import SplitNetwork, tensor_digest
from isthmus.runtime.errors import ArtifactError, InputError

# What `isthmus train` calls the checkpoint in its directory.
CHECKPOINT_NAME = "checkpoint.pt"
FORMAT, VERSION = "isthmus-split-network", 1


def save_checkpoint(
    network: SplitNetwork, path: Path, *, with_teacher: bool = True, facts: Mapping[str, str] | None = None
) -> None:
    """Write `network` to `path`, atomically.

    Args:
        network: What to save.
        path: The file.
        with_teacher: Whether the teacher's weights go along; without, loading needs them.
        facts: Provenance as text: seed, data, command.
    """
    parts = {name: part.state_dict() for name, part in network_parts(network).items()}
    contents = {
        "format": FORMAT,
        "version": VERSION,
        "config": network.config.to_dict(),
        "parts": parts,
        "teacher": network.teacher.state_dict() if with_teacher else None,
        "facts": dict(facts or {}),
    }
    write_tensors(contents, path)


def load_checkpoint(path: Path, *, weights: Path | None = None) -> SplitNetwork:
    """Return the network in the checkpoint `path`, in evaluation mode.

    Args:
        path: A file of `save_checkpoint`, or the directory of `isthmus train`.
        weights: The teacher's weights; needed where the checkpoint leaves them out.

    Raises:
        ArtifactError: If the file is no such checkpoint, or the weights are not its teacher's.
        InputError: If `weights` cannot be used.
    """
    path = path / CHECKPOINT_NAME if path.is_dir() else path
    contents = read_checkpoint(path)
    config = SplitConfig.from_dict(contents["config"])
    teacher = make_teacher(config)
    if weights is not None:
        load_weights(teacher, weights)
    elif contents["teacher"] is not None:
        _load_state(teacher, contents["teacher"], path, "teacher")
    else:
        raise ArtifactError(f"{path}: leaves out the weights of {config.model}; give them with --weights")
    check_teacher(config, teacher, weights or path)
    network = SplitNetwork(config, teacher)
    load_parts(network, contents["parts"], path)
    return network.eval()


def make_teacher(config: SplitConfig) -> nn.Module:
    """Return the uncut network of `config`, without its weights."""
    return make_model(
        config.model,
        num_classes=len(config.labels),
        in_channels=config.input_channels,
        image_size=(config.input_height, config.input_width),
    )


def check_teacher(config: SplitConfig, teacher: nn.Module, path: Path) -> None:
    """Check that `teacher`, whose weights come from `path`, is the one that `config` was trained with.

    Raises:
        ArtifactError: If it is not.
    """
    digest = tensor_digest(teacher)
    if config.teacher_digest not in ("", digest):
        raise ArtifactError(
            f"{path}: these weights of {config.model} have digest {digest}, the bottleneck was "
            f"trained with {config.teacher_digest}; give the same weights"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the raw contents of the checkpoint `path`; `facts` holds its provenance.

    Raises:
        ArtifactError: If the file is missing or no checkpoint of this version.
    """
    contents = read_tensors(path)
    if contents.get("format") != FORMAT or contents.get("version") != VERSION:
        found = f"{contents.get('format')!r} version {contents.get('version')!r}"
        raise ArtifactError(f"{path}: is {found}, not {FORMAT!r} version {VERSION}; train again")
    if not isinstance(contents.get("config"), dict) or not isinstance(contents.get("parts"), dict):
        raise ArtifactError(f"{path}: the checkpoint lacks its config or its tensors; train again")
    return contents


def write_tensors(contents: Mapping[str, Any], path: Path, *, keep: Path | None = None) -> None:
    """Write plain values and tensors to `path`, atomically: an interruption leaves the old file.

    Args:
        contents: What to write.
        path: The file.
        keep: Where the file that was at `path` is kept; None replaces it.

    Raises:
        InputError: If the disk is full or cannot be written; what was there before stays.
    """
    buffer = io.BytesIO()
    torch.save(dict(contents), buffer)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(
            f"{path}: {error.strerror or error}; what was saved before is kept; make room, then go on"
        ) from None


def read_tensors(path: Path) -> dict[str, Any]:
    """Return what `write_tensors` wrote; nothing is executed.

    Raises:
        ArtifactError: If the file is missing, truncated or holds anything but plain values and tensors.
    """
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}; make one with 'isthmus train'") from None
    except Exception as error:  # the reader raises whatever damaged bytes lead it to
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"{path}: not a readable checkpoint ({reason}); train again") from None
    if not isinstance(contents, dict):
        raise ArtifactError(f"{path}: holds a {type(contents).__name__}, not a checkpoint; train again")
    return contents


def network_parts(network: SplitNetwork) -> dict[str, nn.Module]:
    """Return what training changes, by the name it has in files."""
    parts: dict[str, nn.Module] = {
        "encoder": network.encoder,
        "quantiser": network.quantiser,
        "decoder": network.decoder,
    }
    if network.exit_head is not None:
        parts["exit"] = network.exit_head
    if network.config.tail_tuned:
        parts["tail"] = network.tail
    return parts


def load_parts(network: SplitNetwork, states: Mapping[str, Any], path: Path) -> None:
    """Load the trained parts `states`, read from `path`, into `network`.

    Raises:
        ArtifactError: If parts are missing, unknown or do not fit.
    """
    parts = network_parts(network)
    if set(parts) != set(states):
        raise ArtifactError(f"{path}: has parts {sorted(states)}, expected {sorted(parts)}; train again")
    for name, part in parts.items():
        _load_state(part, states[name], path, name)


def load_start(network: SplitNetwork, path: Path) -> list[str]:
    """Copy what fits from the checkpoint or file of parts `path` into `network`; return the tensors' names.

    Raises:
        ArtifactError: If nothing fits, or the file cannot be read.
    """
    path = path / CHECKPOINT_NAME if path.is_dir() else path
    saved = read_tensors(path).get("parts")
    names = []
    for part, module in network_parts(network).items():
        states = saved.get(part, {}) if isinstance(saved, dict) else {}
        for name, value in module.named_parameters():
            if isinstance(states.get(name), torch.Tensor) and states[name].shape == value.shape:
                value.data.copy_(states[name])
                names.append(f"{_ATTRIBUTES.get(part, part)}.{name}")
    if not names:
        raise ArtifactError(f"{path}: no tensor of it fits this bottleneck; give another --start")
    return names


# Where a part's name in files is not that of the network's attribute.
_ATTRIBUTES = {"exit": "exit_head"}


def _load_state(module: nn.Module, state: Mapping[str, Any], path: Path, part: str) -> None:
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{path}: its {part} does not fit the config: {reason}; train again") from None
