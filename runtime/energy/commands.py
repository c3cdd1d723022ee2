"""Commands that say what a sensor shows."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from isthmus.runtime.errors import InputError

_TIMEOUT_S = 5.0


def run_command(command: Sequence[str], *, source: str, remedy: str) -> str:
    """Return what `command` prints on its standard output.

    Raises:
        InputError: If it cannot be run, fails, or takes more than 5 s; the message names `source` and
            `remedy`.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{source}: {command[0]} took longer than {_TIMEOUT_S:g} s; {remedy}") from None
    except OSError as error:
        raise InputError(f"{source}: {command[0]}: {error.strerror or error}; {remedy}") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[:120] or f"exit code {done.returncode}"
        raise InputError(f"{source}: {command[0]}: {said}; {remedy}")
    return done.stdout
