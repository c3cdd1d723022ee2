"""The file in which a training run keeps its settings, and the command that began it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.runtime.errors import InputError

CONFIG = "config.toml"
# Before the command, on the file's first line.
_COMMENT = "# "


def keep_config(out: Path, settings: Mapping[str, Any]) -> None:
    """Write this process's command and its `settings` into the directory `out`, whole or not at all.

    Raises:
        InputError: If the file cannot be written.
    """
    from isthmus.models.option_layers import to_toml

    file = out / CONFIG
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.write_text(f"{_COMMENT}{_command()}\n{to_toml(settings)}", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; make room, or choose another --out") from None


def first_command(out: Path) -> str:
    """Return the command that began the run in `out`: a resumption's own would not repeat it."""
    file = out / CONFIG
    first = file.read_text(encoding="utf-8").partition("\n")[0] if file.is_file() else ""
    return first.removeprefix(_COMMENT) if first.startswith(_COMMENT) else _command()


def _command() -> str:
    return shlex.join(["isthmus", *sys.argv[1:]]).replace("\n", " ")
