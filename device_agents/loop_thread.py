"""An asynchronous context for a program without an event loop: it has a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from isthmus.device_agents.clock import run_exactly

T = TypeVar("T")


class LoopThread:
    """Holds `context` open on a thread of its own from `open` to `close`."""

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self._context = context
        self._opened: Future[asyncio.AbstractEventLoop] = Future()
        self._closed: Future[None] = Future()
        self._leave: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._work, name="agent", daemon=True)

    def open(self) -> None:
        """Enter the context; raises what entering raises."""
        self._thread.start()
        self._opened.result()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run `work` on the loop and return its result.

        Raises:
            TimeoutError: If it took longer than `timeout_s`; `work` is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._opened.result())
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Leave the context and end the thread; raises what leaving raises."""
        if self._leave is not None:
            self._opened.result().call_soon_threadsafe(self._leave.set)
        self._thread.join()
        self._closed.result()

    def _work(self) -> None:
        try:
            run_exactly(self._hold())
        except BaseException as error:
            (self._closed if self._opened.done() else self._opened).set_exception(error)
        else:
            self._closed.set_result(None)

    async def _hold(self) -> None:
        async with self._context:
            self._leave = asyncio.Event()
            self._opened.set_result(asyncio.get_running_loop())
            await self._leave.wait()
