"""What every verb shares: output, the JSON switch, and errors as one line with a documented exit code."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

# Progress and prose go to stderr, results to stdout: `--json` output can be piped as it is.
console = Console(stderr=True, highlight=False)
out = Console(highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def print_json(result: Any) -> None:
    """Print `result` as JSON on standard output."""
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
