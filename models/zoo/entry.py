"""An entry of the zoo: `config.json`, `weights.npz` and a card, from which a split network is rebuilt.

Holds what training made, never the uncut network's weights: whoever rebuilds brings them, and their digest
must be the one that the bottleneck was trained with. A tail that was tuned is stored as its difference to
theirs. Nothing in an entry can execute.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.models.backbones import MODELS, load_weights
from isthmus.models.checkpoint import check_teacher, make_teacher, network_parts
from isthmus.models.config import SplitConfig
from isthmus.models.split_network import SplitNetwork
from isthmus.models.zoo.packing import pack, unpack
from isthmus.runtime.errors import ArtifactError, InputError

CONFIG, WEIGHTS, CARD = "config.json", "weights.npz", "card.md"
_FORMAT, _VERSION = "isthmus-zoo", 1
_TAIL = "tail"
# A path that begins at the root: of it only the last folder and the name travel.
_FOLDERS = re.compile(r"(?<![\w.])(?:/[^\s/:,]+)*/([^\s/:,]+/[^\s/:,]+)")


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    version: int
    weights_sha256: str
    config: dict[str, Any]
    facts: dict[str, str]


def entry_names() -> list[str]:
    """Return the names of the entries that come with the package."""
    return sorted(file.parent.name for file in _root().glob(f"*/{CONFIG}"))


def write_entry(network: SplitNetwork, folder: Path, *, facts: Mapping[str, str]) -> int:
    """Write `network` as an entry into `folder` and return the bytes of its tensors.

    Args:
        network: Trained and calibrated.
        folder: Made where it is missing; an entry in it is replaced, a card in it stays.
        facts: Provenance as text; folders in it are left out.

    Raises:
        InputError: If the uncut network is not one of the package's, or `folder` cannot be written.
    """
    config = network.config
    if config.model not in MODELS:
        raise InputError(
            f"{config.model}: the zoo holds bottlenecks of the package's own networks; cut one of them"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for part, module in network_parts(network).items():
        known = network.teacher_tail.state_dict() if part == _TAIL else None
        arrays |= {f"{part}/{name}": array for name, array in pack(module.state_dict(), known).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    weights = buffer.getvalue()
    entry = _Entry(
        format=_FORMAT,
        version=_VERSION,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        config=config.to_dict(),
        facts={key: _FOLDERS.sub(r"\1", str(value)) for key, value in facts.items()},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(weights)
        (folder / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(entry), indent=1) + b"\n")
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; choose another --to-zoo") from None
    return len(weights)


def load_entry(name: str, *, weights: Path) -> tuple[SplitNetwork, dict[str, str]]:
    """Return the split network of an entry, in evaluation mode, and its facts.

    Args:
        name: Of an entry of the package, or an entry's folder.
        weights: The uncut network's weights.

    Raises:
        InputError: If there is no such entry, or `weights` cannot be used.
        ArtifactError: If the entry is damaged, or the weights are not those it was trained with.
    """
    folder = _folder(name)
    entry, arrays = _read(folder)
    config = SplitConfig.from_dict(entry.config)
    teacher = make_teacher(config)
    load_weights(teacher, weights)
    check_teacher(config, teacher, weights)
    network = SplitNetwork(config, teacher)
    parts = network_parts(network)
    if strange := {key.partition("/")[0] for key in arrays} - set(parts):
        raise ArtifactError(f"{folder / WEIGHTS}: has unknown parts {sorted(strange)}; {_REMEDY}")
    for part, module in parts.items():
        own = {key[len(part) + 1 :]: array for key, array in arrays.items() if key.startswith(part + "/")}
        known = network.teacher_tail.state_dict() if part == _TAIL else None
        try:
            module.load_state_dict(unpack(own, module.state_dict(), known))
        except ValueError as error:
            raise ArtifactError(f"{folder / WEIGHTS}: its {part} {error}; {_REMEDY}") from None
    return network.eval(), entry.facts


_REMEDY = "take the entry as it was published"


def _root() -> Path:
    return Path(__file__).parent


def _folder(name: str) -> Path:
    for folder in (_root() / name, Path(name)):
        if (folder / CONFIG).is_file():
            return folder
    known = ", ".join(entry_names()) or "none here"
    raise InputError(f"zoo entry {name!r}: give the folder of one, or a name: {known}")


def _read(folder: Path) -> tuple[_Entry, dict[str, NDArray[Any]]]:
    try:
        entry = msgspec.json.decode((folder / CONFIG).read_bytes(), type=_Entry)
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{error.filename}: {error.strerror or error}; {_REMEDY}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{folder / CONFIG}: {error}; {_REMEDY}") from None
    if (entry.format, entry.version) != (_FORMAT, _VERSION):
        found = f"{entry.format!r} version {entry.version}"
        raise ArtifactError(f"{folder / CONFIG}: is {found}, not {_FORMAT!r} version {_VERSION}; {_REMEDY}")
    if hashlib.sha256(weights).hexdigest() != entry.weights_sha256:
        raise ArtifactError(f"{folder / WEIGHTS}: its SHA-256 is not the one in {CONFIG}; {_REMEDY}")
    try:
        with np.load(io.BytesIO(weights), allow_pickle=False) as contents:
            return entry, {name: contents[name] for name in contents.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{folder / WEIGHTS}: {error}; {_REMEDY}") from None
