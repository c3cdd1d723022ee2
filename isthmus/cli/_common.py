"""What every verb shares: output, the JSON switch, and errors as one line with a documented exit code."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Annotated, Any

import typer
from rich.console import Console


class _PatientConsole(Console):
    """A console whose reader may leave (`isthmus agent | head`): the work goes on without it.

    Rich ends the process instead, from wherever it was printing.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except BrokenPipeError:  # Rich before 13.8 does not ask `on_broken_pipe`
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _discard(self.file)


# Progress and notes go to stderr, results to stdout: `--json` output can be piped as it is. Errors have a
# console of their own, which `--quiet` does not silence. Rich honours NO_COLOR on all three.
console = _PatientConsole(stderr=True, highlight=False, emoji=False)
errors = _PatientConsole(stderr=True, highlight=False, emoji=False)
out = _PatientConsole(highlight=False, emoji=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def print_json(result: Any) -> None:
    """Print `result` as JSON on standard output."""
    try:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: IO[str]) -> None:
    """Send what `stream` still holds, and whatever follows, nowhere: Python flushes it once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
