"""The knobs that a page may turn: those of links and agents that listen on a socket file.

Decides when a process counts as gone. What can be set, and between which bounds, the process itself says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.runtime.errors import IsthmusError
from isthmus.runtime.steering import Steerable, steer

_EVERY_S = 1.0


class Control:
    """One process that can be steered.

    Attributes:
        path: Its socket file.
        said: What it said last; None: nobody answers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: Steerable | None = None

    async def ask(self) -> None:
        """Find out what holds."""
        try:
            self.said = await steer(self.path)
        except IsthmusError:
            self.said = None

    async def set(self, wish: dict[str, float | None]) -> Steerable:
        """Set what `wish` names; None: as at the start.

        Raises:
            InputError: If the process refuses it.
            NetworkError: If the process is gone.
        """
        self.said = await steer(self.path, wish)
        return self.said


class Controls:
    """All of them, by their place in the list.

    Args:
        paths: The socket files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.all = [Control(path) for path in paths]

    async def keep_asking(self) -> None:
        """Ask every process once a second, until cancelled."""
        while True:
            await asyncio.gather(*(control.ask() for control in self.all))
            await asyncio.sleep(_EVERY_S)

    def shown(self) -> list[dict[str, Any]]:
        """Return what a page shows of those that answer."""
        return [
            {
                "id": number,
                "kind": control.said.kind,
                "name": control.said.name,
                "knobs": [
                    {
                        "name": knob.name,
                        "value": knob.value,
                        "is_set": knob.is_set,
                        "low": knob.low,
                        "high": knob.high,
                    }
                    for knob in control.said.knobs
                ],
            }
            for number, control in enumerate(self.all)
            if control.said is not None
        ]
