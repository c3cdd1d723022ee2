"""Ctrl-C and SIGTERM as a question a long command can ask, so that it ends where its work is saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from isthmus.cli._common import console


class StopSignals:
    """Remembers the first signal; a second one ends the process as if nobody had listened.

    Attributes:
        received: The signal's number; None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def stop(self) -> bool:
        """Say whether a signal came."""
        return self.received is not None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        console.print("stopping after this step; once more to stop at once")

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
