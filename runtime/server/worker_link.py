"""A worker's link to its supervisor: signs of life out, changes of models both ways, a JSON line each.

Knows no pipes: what is to be said goes to a callable, what is heard comes as parsed lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from isthmus.runtime.errors import BackendError, IsthmusError, UnknownModelError

log = logging.getLogger("isthmus.server")

# How often a worker says that its event loop still turns.
ALIVE_EVERY_S = 1.0
# The others may have to compile a tail for their device; far more than that means that one hangs.
_PATIENCE_S = 600.0

Change = Callable[[str, str], Awaitable[None]]


class WorkerLink:
    """One worker's end.

    Args:
        say: Sends one message to the supervisor.
        change: Makes a change, "load" or "unload", of the model named, in this process alone.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None], change: Change) -> None:
        self._say = say
        self._change = change
        self._asked: dict[str, asyncio.Future[list[str]]] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Give signs of life until cancelled."""
        while True:
            self._say({"event": "alive"})
            await asyncio.sleep(ALIVE_EVERY_S)

    async def announce(self, change: str, model: str) -> None:
        """Have the other workers make a change that this one has made; return when they have.

        Raises:
            BackendError: If one of them could not, and why.
        """
        self._count += 1
        token = str(self._count)
        told = self._asked[token] = asyncio.get_running_loop().create_future()
        self._say({"event": "change", "change": change, "model": model, "token": token})
        try:
            errors = await asyncio.wait_for(told, _PATIENCE_S)
        except asyncio.TimeoutError:
            errors = [f"no answer in {_PATIENCE_S:g} s"]
        finally:
            del self._asked[token]
        if errors:
            raise BackendError(
                f"model '{model}': {change} is done in one process of this server, not in all: "
                f"{'; '.join(errors)}"
            )

    def hear(self, said: dict[str, Any]) -> None:
        """Take a message from the supervisor."""
        if "told" in said:
            told = self._asked.get(said["told"])
            if told is not None and not told.done():
                told.set_result(said["errors"])
            return
        task = asyncio.create_task(self._obey(said))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, said: dict[str, Any]) -> None:
        change, model, error = said["change"], said["model"], ""
        try:
            await self._change(change, model)
        except UnknownModelError as unknown:
            # Unloaded here already: that is what was wanted.
            error = str(unknown) if change == "load" else ""
        except IsthmusError as failed:
            error = str(failed)
        if error:
            log.error("%s %s, as another process did: %s", change, model, error)
        if said["token"]:
            self._say({"event": "changed", "token": said["token"], "error": error})
