"""The files of a training run: the states that resume it, its metrics, and its configuration.

Every state is written beside its place and renamed into it, and the one before is kept: whatever moment a
process or a machine dies in, a good state is left.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from torch import nn

from isthmus.models.checkpoint import load_parts, network_parts, read_tensors, write_tensors
from isthmus.models.split_network import SplitNetwork, tensor_digest
from isthmus.models.trainer import BottleneckTrainer
from isthmus.runtime.datasets import ImageSet
from isthmus.runtime.errors import ArtifactError, InputError

STATE, PREVIOUS_STATE, METRICS = "state.pt", "state.previous.pt", "metrics.jsonl"
_LOCK = "run.lock"
_FORMAT, _VERSION = "isthmus-training-state", 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands.

    Attributes:
        epochs: Finished epochs.
        step: Steps taken in the epoch under way.
        elapsed_s: Seconds they took, over all resumptions.
        sums: The `Tally` of the epoch under way.
    """

    epochs: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    sums: Mapping[str, list[float]] = dataclasses.field(default_factory=dict)


def save_state(folder: Path, trainer: BottleneckTrainer, position: Position, data: Mapping[str, Any]) -> None:
    """Write what resumes `trainer` after `position` into `folder`; the state before it is kept as well.

    Args:
        folder: Of the run.
        trainer: As it stands.
        position: Where that is.
        data: The `data_facts` of its images.

    Raises:
        InputError: If the disk is full or cannot be written; the last good state is untouched.
    """
    state = {
        "format": _FORMAT,
        "version": _VERSION,
        "config": trainer.network.config.to_dict(),
        "settings": dataclasses.asdict(trainer.settings),
        "data": dict(data),
        "position": dataclasses.asdict(position),
        "parts": {name: part.state_dict() for name, part in network_parts(trainer.network).items()},
        "trainer": trainer.state(),
    }
    write_tensors(state, folder / STATE, keep=folder / PREVIOUS_STATE)


def resume_state(folder: Path, trainer: BottleneckTrainer, data: Mapping[str, Any]) -> Position:
    """Load the last good state in `folder` into `trainer` and return where it stands.

    Args:
        folder: Of the run.
        trainer: Of the same network and settings, whatever its weights.
        data: The `data_facts` of the images it is to go on with.

    Raises:
        ArtifactError: If there is none.
        InputError: If it belongs to another network, other settings or other images; names the first that
            differs.
    """
    path = folder / STATE
    try:
        state = _read(path)
    except ArtifactError:
        if not (folder / PREVIOUS_STATE).exists():
            raise
        # A machine that died may leave the newest file unfinished: the one before leads to the same end.
        path = folder / PREVIOUS_STATE
        state = _read(path)
    _same(path, "config", state["config"], trainer.network.config.to_dict())
    _same(path, "settings", state["settings"], dataclasses.asdict(trainer.settings))
    # Images that a run has learned from must not turn up among those held out from it.
    _same(path, "data", state["data"], data)
    load_parts(trainer.network, state["parts"], path)
    trainer.restore(state["trainer"])
    return Position(**state["position"])


def data_facts(images: ImageSet) -> dict[str, Any]:
    """Return how many images a run learns from, and 16 hex digits over their pixels and labels."""
    digest = hashlib.sha256(repr(images.images.shape).encode())
    for values in (images.images, images.labels):
        digest.update(np.ascontiguousarray(values).data)
    return {"images": len(images), "digest": digest.hexdigest()[:16]}


def append_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line to `path`.

    Raises:
        InputError: If the disk is full or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record)) + "\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; make room and add --resume") from None


def trim_metrics(path: Path, epochs: int) -> None:
    """Drop the records of `path` that a run resumed after `epochs` epochs will write again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # the process died while it wrote this line
            continue
        if isinstance(record, dict) and record.get("epoch", 0) < epochs:
            kept.append(line + "\n")
    path.write_text("".join(kept), encoding="utf-8")


@contextmanager
def open_run(out: Path, *, resume: bool) -> Iterator[None]:
    """Make the directory `out` for a run and keep other processes out of it.

    Raises:
        InputError: If `out` cannot be made or written, another process trains in it, or it holds a run's
            state and `resume` is not asked for.
    """
    lock = FileLock(out / _LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another process trains here; wait until it ends, or choose another --out"
        ) from None
    except OSError as error:
        raise InputError(f"{out}: {error.strerror or error}; choose another --out") from None
    try:
        if has_state(out) and not resume:
            raise InputError(f"{out / STATE}: an earlier run is here; add --resume, or choose another --out")
        if not resume:  # what a run that ended in its first epoch left behind
            (out / METRICS).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def has_state(out: Path) -> bool:
    """Say whether a run in `out` left a state."""
    return (out / STATE).exists() or (out / PREVIOUS_STATE).exists()


def trained_digest(network: SplitNetwork) -> str:
    """Return 16 hex digits of a SHA-256 over all that training changed: equal runs have equal ones."""
    return tensor_digest(nn.ModuleDict(network_parts(network)))


def _read(path: Path) -> dict[str, Any]:
    state = read_tensors(path)
    if state.get("format") != _FORMAT or state.get("version") != _VERSION:
        raise ArtifactError(f"{path}: is no training state of this version; remove it to start anew")
    return state


def _same(
    path: Path, what: str, saved: Mapping[str, Any], wanted: Mapping[str, Any], under: str = ""
) -> None:
    for name in {**saved, **wanted}:  # what is in one of them alone differs, too
        value = wanted.get(name)
        if isinstance(value, dict) and isinstance(saved.get(name), dict):
            _same(path, what, saved[name], value, f"{under}{name}.")
        elif saved.get(name) != value:
            raise InputError(
                f"{path}: was trained with {what} {under}{name} = {saved.get(name)!r}, now {value!r} is "
                "asked for; resume with the same flags or remove the file to start anew"
            )
