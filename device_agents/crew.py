"""Tasks that live and die together: the first failure is everyone's.

What asyncio's TaskGroup does from Python 3.11 on, less the rule that the group ends when its tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Crew:
    """A set of tasks and the future that holds their first failure. Made on a running event loop."""

    def __init__(self) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or the crew is dismissed."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def fail(self, error: BaseException) -> None:
        """Make `error` the crew's failure, unless it has one."""
        if not self.failure.done():
            self.failure.set_exception(error)

    async def dismiss(self) -> None:
        """Cancel every task and wait until all have ended; what they still raise is of no interest."""
        if not self.failure.done():
            self.failure.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)
