"""Numbers that the kernel shows in small files, and one line where it does not."""

from __future__ import annotations

from pathlib import Path

from isthmus.runtime.errors import InputError


def read_number(file: Path, *, source: str, remedy: str) -> int:
    """Return the whole number in `file`.

    Raises:
        InputError: If it cannot be read, or holds something else; the message names `source` and `remedy`.
    """
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
        return int(text)
    except OSError as error:
        raise InputError(f"{source}: {file}: {error.strerror or error}; {remedy}") from None
    except ValueError:
        raise InputError(f"{source}: {file} holds {text!r}, no number; {remedy}") from None


def read_label(file: Path) -> str | None:
    """Return the text in `file`; None where there is none."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip().rstrip("\0")
    except OSError:
        return None
