"""An event loop whose timers are exact.

asyncio waits with epoll, which rounds every timeout up to a whole millisecond: half a millisecond on average
that every frame would be captured late and every guard would fire late. select(2) counts microseconds, and
its limit of 1,024 descriptors is far away for an agent, which has about ten.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_exactly(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on an event loop of its own with exact timers, like `asyncio.run`, and return its result."""
    # asyncio.Runner, which takes a loop, exists only from Python 3.11 on.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            loop.run_until_complete(_end_rest())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _end_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
