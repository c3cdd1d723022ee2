"""What a verb shows while it works: one line on standard error, for people who are looking.

Decides that nothing of it reaches a pipe, a log file or a terminal that was told `--quiet`. Refuses to know
what the work is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from isthmus.cli._common import console

# Whoever measures time beside the display must not lose a core's percents to it.
_REFRESHES_PER_S = 4


class Show(Protocol):
    """Changes what the line says."""

    def __call__(self, what: str | None = None, share: float | None = None) -> None:
        """Show `what` is done now, and the `share` (0..1) that is done; None leaves either as it is."""


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """Show `what` is being done, and for how long already, while the block runs; gone after it.

    The bar pulses until a share is known.
    """
    if not console.is_terminal or console.quiet:
        yield _nothing
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=_REFRESHES_PER_S) as bar:
        task = bar.add_task(what, total=None)

        def show(what: str | None = None, share: float | None = None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=what, total=total, completed=share)

        yield show


def _nothing(what: str | None = None, share: float | None = None) -> None:
    """Show nothing: nobody looks."""
