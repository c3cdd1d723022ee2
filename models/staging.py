"""A directory that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.runtime.bundle import MANIFEST
from isthmus.runtime.errors import InputError


@contextmanager
def staged_directory(out: Path) -> Iterator[Path]:
    """Yield an empty directory beside `out` that takes its place if all goes well, and is removed if not.

    `out` may be new, empty, or a bundle, which is then replaced.

    Raises:
        InputError: If `out` holds anything else, is the working directory, or cannot be written.
    """
    place = Path(os.path.abspath(out))  # ".." has no name; unlike `resolve` it follows no link
    if place == Path.cwd():  # a shell that stands in it would stand nowhere
        raise InputError(
            f"{out}: the working directory cannot be replaced; name a directory in it or beside it"
        )
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is no bundle; choose a new or empty directory")
    staging, old = (place.with_name(f"{place.name}.{suffix}") for suffix in ("partial", "old"))
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        staging.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: {error.strerror or error}; choose another --out"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
