"""Which worker's change of models others still have to make. Pure: knows no processes and no pipes.

A client's order to load or unload a model reaches one of several processes. That one obeys and asks for the
same of the others; it is told when all of them have done so, or have gone, and what went wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Open:
    asker: int
    token: str
    waiting: set[int]
    errors: list[str] = field(default_factory=list)


class Relay:
    """The changes that are under way, and those which a worker that starts anew has to repeat."""

    def __init__(self) -> None:
        """Make a relay that has seen no change."""
        self._open: dict[str, _Open] = {}
        self._unloaded: dict[str, None] = {}
        self._count = 0

    def ask(
        self, asker: int, said: dict[str, Any], others: Iterable[int]
    ) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, dict[str, Any]]]]:
        """Note the change in `said` by the worker `asker`; return orders to others, and answers that are due.

        Both are pairs of a worker's number and what to tell it.
        """
        change, model = said["change"], said["model"]
        if change == "unload":
            self._unloaded[model] = None
        else:
            self._unloaded.pop(model, None)
        self._count += 1
        token = str(self._count)
        found = self._open[token] = _Open(asker, said["token"], set(others))
        order = {"change": change, "model": model, "token": token}
        return [(number, order) for number in sorted(found.waiting)], self._due()

    def answered(self, number: int, token: str, error: str) -> list[tuple[int, dict[str, Any]]]:
        """Note that a worker has made the change `token`, or why not; return answers that are due."""
        found = self._open.get(token)
        if found is not None and number in found.waiting:
            found.waiting.remove(number)
            if error:
                found.errors.append(f"process {number}: {error}")
        return self._due()

    def gone(self, number: int) -> list[tuple[int, dict[str, Any]]]:
        """Note that a worker has ended: nobody waits for it; return answers that are due."""
        for found in self._open.values():
            found.waiting.discard(number)
        return [(asker, answer) for asker, answer in self._due() if asker != number]

    def repeated(self) -> list[dict[str, Any]]:
        """Return the orders for a worker that has just started: it has loaded all that is on the disk."""
        return [{"change": "unload", "model": model, "token": ""} for model in self._unloaded]

    def _due(self) -> list[tuple[int, dict[str, Any]]]:
        ended = [token for token, found in self._open.items() if not found.waiting]
        done = [self._open.pop(token) for token in ended]
        return [(found.asker, {"told": found.token, "errors": found.errors}) for found in done]
