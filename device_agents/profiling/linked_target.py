"""Frames that a server answers: the agent itself, told to use one operating point and to wait for its answer.

What is measured is what runs: the same session, pipeline, guard and uplink as `isthmus agent`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Moment
from isthmus.device_agents.profiling.sample import Sample
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.errors import NetworkError
from isthmus.runtime.events import Event, EventLog, FrameEvent

# Far beyond what any frame takes; one that takes longer counts as not answered.
DEADLINE_S = 10.0
_CONNECT_S = 15.0
# More than the policy ever lets wait.
_QUEUE = "fifo:1024"
# The most that a configuration takes: how many frames may be unanswered follows from it.
_FPS = 1000.0


class FrameLog(EventLog):
    """An event log that hands every frame's end on, and writes nothing down."""

    def __init__(self, on_frame: Callable[[FrameEvent], None]) -> None:
        """Hand ends to `on_frame`."""
        super().__init__(os.devnull)
        self._on_frame = on_frame

    def write(self, event: Event) -> None:
        """Take one event; it is encoded and written like any other, because a running agent does so."""
        super().write(event)
        if isinstance(event, FrameEvent):
            self._on_frame(event)


class LinkedTarget:
    """Answers frames with a running agent; made by `linked_target`."""

    def __init__(self, run: AgentRun, images_nhwc: NDArray[np.uint8]) -> None:
        """Push `images_nhwc`, in turn, into `run`."""
        self._run = run
        self._images = images_nhwc
        self._waiting: dict[int, tuple[asyncio.Future[Sample], float]] = {}

    def ask(self, due_s: float) -> asyncio.Future[Sample]:
        """See `Target`."""
        frame = self._run.captured
        future: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        # It may have ended before `push` returns.
        self._waiting[frame] = (future, due_s)
        self._run.push(self._images[frame % len(self._images)])
        return future

    def ended(self, event: FrameEvent) -> None:
        """Take the end of a frame."""
        future, due_s = self._waiting.pop(event.frame)
        if not future.done():
            as_asked = event.outcome == "remote"
            future.set_result(Sample(event=event, due_s=due_s, as_asked=as_asked))

    def fail(self, error: BaseException) -> None:
        """End whatever waits with `error`."""
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(error)


@asynccontextmanager
async def linked_target(
    way: Way,
    config: AgentConfig,
    bundle: Bundle,
    bank: WidthBank,
    images_nhwc: NDArray[np.uint8],
    *,
    note: Callable[[str], None] = lambda text: None,
) -> AsyncIterator[LinkedTarget]:
    """Yield a target whose frames a server answers at the operating point of `way`.

    Args:
        way: Of the kind `server`.
        config: Servers, security, codec, threads; the rest is set here.
        bundle: The bundle.
        bank: Its warm sessions.
        images_nhwc: uint8 images of the bundle's input.
        note: Takes one line whenever something changes.

    Raises:
        NetworkError: If no server can be reached, or none has the model.
        PeerError, AccessError: If the server refuses the bundle or us.
    """
    point = way.point
    assert way.kind == "server"
    assert point is not None
    told = replace(
        config,
        policy=f"fixed:{point.width_index},{point.channels}",
        deadline_s=DEADLINE_S,
        queue=_QUEUE,
        fps=_FPS,
        thermal="off",
        energy="none",
        events=None,
    )
    target: LinkedTarget | None = None

    def on_frame(event: FrameEvent) -> None:
        if target is not None:
            target.ended(event)

    log = FrameLog(on_frame)
    try:
        run = AgentRun(told, bundle, bank=bank, source=None, log=log, observer=_Watcher(note))
        target = LinkedTarget(run, images_nhwc)
        task = asyncio.ensure_future(run.run())
        task.add_done_callback(lambda ended: _on_ended(ended, target))
        try:
            await _connected(run, task, config.server)
            yield target
        finally:
            run.stop()
            run.stop()  # what is still open is of no interest any more
            await asyncio.gather(task, return_exceptions=True)
    finally:
        log.close()


async def _connected(run: AgentRun, task: asyncio.Task[object], server: str) -> None:
    waiting = asyncio.ensure_future(run.was_connected.wait())
    began_s = time.monotonic()
    await asyncio.wait({waiting, task}, timeout=_CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiting.cancel()
        task.result()  # raises why
    if not waiting.done():
        waiting.cancel()
        raise NetworkError(
            f"server {server}: no connection within {time.monotonic() - began_s:.0f} s; start it with "
            "'isthmus serve', or leave --server out to profile the device alone"
        )


def _on_ended(task: asyncio.Task[object], target: LinkedTarget) -> None:
    error = None if task.cancelled() else task.exception()
    target.fail(error or NetworkError("the run ended before the frame did; measure again"))


class _Watcher:
    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def moment(self, moment: Moment) -> None:
        """Take the state of the run; nobody looks."""
