"""Where the environments of other servers lie, as `scripts/peers` makes them."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def environment(name: str) -> Path | None:
    """Return the virtual environment of the server `name`; None if it has not been made."""
    folder = Path(os.environ.get("ISTHMUS_PEERS", PROJECT / ".venv-peers")).absolute() / name
    return folder if (folder / ".installed").is_file() else None


def missing(names: tuple[str, ...]) -> list[str]:
    """Return those of `names` whose environments are not there."""
    return [name for name in names if environment(name) is None]
