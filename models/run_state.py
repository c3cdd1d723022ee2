"""The files of a training run: the state that resumes it, its metrics, and the finished checkpoint."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.models.checkpoint import load_parts, network_parts, read_tensors, write_tensors
from isthmus.models.config import SplitConfig
from isthmus.models.trainer import BottleneckTrainer
from isthmus.runtime.errors import ArtifactError, InputError

STATE, METRICS = "state.pt", "metrics.jsonl"
_FORMAT, _VERSION = "isthmus-training-state", 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands: finished epochs and the seconds they took."""

    epochs: int = 0
    elapsed_s: float = 0.0


def save_state(path: Path, trainer: BottleneckTrainer, position: Position) -> None:
    """Write what resumes `trainer` after `position`, atomically; the file before it was the last good one."""
    write_tensors(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "config": trainer.network.config.to_dict(),
            "settings": dataclasses.asdict(trainer.settings),
            "position": dataclasses.asdict(position),
            "parts": {name: part.state_dict() for name, part in network_parts(trainer.network).items()},
            "trainer": trainer.state(),
        },
        path,
    )


def resume_state(path: Path, trainer: BottleneckTrainer) -> Position:
    """Load the state in `path` into `trainer` and return where it stands.

    Raises:
        ArtifactError: If the file is no training state.
        InputError: If it belongs to another network or other settings; names the first that differs.
    """
    state = read_tensors(path)
    if state.get("format") != _FORMAT or state.get("version") != _VERSION:
        raise ArtifactError(f"{path}: is no training state of this version; remove it to start anew")
    _same(path, "config", SplitConfig.from_dict(state["config"]).to_dict(), trainer.network.config.to_dict())
    _same(path, "settings", state["settings"], dataclasses.asdict(trainer.settings))
    load_parts(trainer.network, state["parts"], path)
    trainer.restore(state["trainer"])
    return Position(**state["position"])


def append_metrics(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(record)) + "\n")


def _same(path: Path, what: str, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if saved.get(name) != value:
            raise InputError(
                f"{path}: was trained with {what} {name} = {saved.get(name)!r}, now {value!r} is asked for; "
                "resume with the same flags or remove the file to start anew"
            )


def open_run(out: Path, *, resume: bool) -> None:
    """Make the directory `out` for a run, and refuse to start anew over an earlier one.

    Raises:
        InputError: If `out` cannot be made or written, or holds a run's state and `resume` is not asked for.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"{out}: {error.strerror or error}; choose another --out") from None
    if (out / STATE).exists() and not resume:
        raise InputError(f"{out / STATE}: an earlier run is here; add --resume, or choose another --out")
    if not resume:  # what a run that ended in its first epoch left behind
        (out / METRICS).unlink(missing_ok=True)
