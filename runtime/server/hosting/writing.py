"""Write a small directory whole, or leave what was there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from isthmus.runtime.errors import InputError


def copy_module(name: str) -> bytes:
    """Return the source of the module `name` of this package, which another server is to run."""
    return (resources.files("isthmus.runtime.server.hosting") / f"{name}.py").read_bytes()


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Replace `folder` by one with `files` (by relative path), in one step.

    Servers look at their repositories while this goes on; they see the old directory or the new one.

    Raises:
        InputError: If it cannot be written.
    """
    folder = folder.expanduser().absolute()
    # A server that watches the repository skips names that begin with a dot.
    fresh, old = (
        folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.{kind}") for kind in ("new", "old")
    )
    try:
        for name, content in files.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}; name another") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder
