"""`isthmus.Agent`: a bundle at work in somebody else's program, with images that the program pushes.

Decides how results find their way back to whoever asked. Everything else is `AgentRun`, the same run that
`isthmus agent` drives.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig, read_config
from isthmus.device_agents.delivery.replies import Replies
from isthmus.device_agents.delivery.results import Result
from isthmus.device_agents.ledger import Moment, RunReport
from isthmus.device_agents.loop_thread import LoopThread
from isthmus.device_agents.pictures import PictureSource, check_image
from isthmus.device_agents.settings import DEFAULTS
from isthmus.device_agents.sources import FrameSource, open_source
from isthmus.runtime.bundle import Bundle, Manifest, load_bundle
from isthmus.runtime.errors import InputError
from isthmus.runtime.events import EventLog

_log = logging.getLogger("isthmus.agent")
# Pushed frames wait for each other; with the default, the newest would win and the others be dropped.
_QUEUE = "fifo:64"

Image = NDArray[np.uint8]


class Agent:
    """Answers images with a bundle on this device and, where the link allows, with a server's help.

    Asynchronous, on the running event loop:

        async with Agent("runs/demo/bundle", server="127.0.0.1:8001", deadline="150ms") as agent:
            result = await agent.submit(image)
            async for result in agent.run(source):
                ...

    Blocking, with an event loop on a thread of its own:

        with Agent("runs/demo/bundle", server="127.0.0.1:8001") as agent:
            result = agent.infer(image)

    Every image gets one `Result`, whatever happens to the link; its `outcome` says who answered it. A server
    that cannot be reached is no error: the device answers and goes on trying.

    Args:
        bundle: A bundle, or its directory.
        on_result: Called with every result, on the event loop's thread; must not take long.
        on_note: Called with one line whenever something changes (connected, lost, ...), on the event loop's
            thread; None: the logger `isthmus.agent` gets it.
        settings: As in the file of `isthmus agent --config`, by name; durations are text with a unit
            (`deadline="150ms"`). `fps` is the most images a second that are pushed. Environment variables are
            not read.

    Raises:
        InputError: If a setting is unknown or cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        *,
        on_result: Callable[[Result], None] | None = None,
        on_note: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> None:
        unknown = [name for name in settings if name not in DEFAULTS or name == "bundle"]
        if unknown:
            raise InputError(f"setting {unknown[0]!r} is unknown; known are {', '.join(DEFAULTS)}")
        self.config: AgentConfig = read_config({"source": "pushed", "queue": _QUEUE, **settings}, environ={})
        self.report: RunReport | None = None
        self._bundle_or_path = bundle
        self._on_result = on_result
        self._on_note = on_note or _log.info
        self._replies = Replies()
        self._capturing: asyncio.Task[None] | None = None
        self._run: AgentRun | None = None
        self._task: asyncio.Task[RunReport] | None = None
        self._log: EventLog | None = None
        self._told = False
        self._thread: LoopThread | None = None

    # Blocking: an event loop on a thread of its own.

    def __enter__(self) -> Agent:
        """Open the agent; see `__aenter__`."""
        self._thread = LoopThread(self)
        self._thread.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the agent; see `__aexit__`."""
        assert self._thread is not None
        try:
            self._thread.close()
        except Exception:
            if error is None:
                raise

    def infer(self, image_hwc: Image, *, truth: int | None = None, timeout_s: float | None = None) -> Result:
        """Answer one image, blocking; may be called from several threads at once.

        Args:
            image_hwc: See `submit`.
            truth: See `submit`.
            timeout_s: Seconds to wait at most; None: as long as it takes.

        Raises:
            TimeoutError: If it took longer (before Python 3.11, `concurrent.futures.TimeoutError`).
            InputError, NetworkError, PeerError: See `submit`.
        """
        if self._thread is None:
            raise InputError("the agent is not open; use it in 'with Agent(...) as agent:'")
        return self._thread.call(self.submit(image_hwc, truth=truth), timeout_s)

    # Asynchronous: on the running event loop.

    async def __aenter__(self) -> Agent:
        """Load and warm the bundle's sessions, and begin to connect.

        Raises:
            BundleError: If the bundle cannot be verified or run.
            InputError: If a setting does not fit the bundle or this machine.
        """
        if self._run is not None:
            raise InputError("the agent has been opened before; make another for another run")
        bundle, bank = await asyncio.to_thread(self._load)
        if self.config.events is not None:
            self._log = EventLog(self.config.events)
        try:
            self._run = AgentRun(
                self.config,
                bundle,
                bank=bank,
                source=None,
                log=self._log,
                observer=self,
                on_result=self._take,
            )
        except BaseException:
            self._close_log()
            raise
        self._task = asyncio.ensure_future(self._run.run())
        self._task.add_done_callback(self._on_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every image in flight; `report` then says what the run amounted to.

        Raises:
            NetworkError, PeerError: What ended the run early, if nobody has been told.
        """
        assert self._run is not None
        assert self._task is not None
        self._run.stop()
        try:
            self.report = await self._task
        except Exception:
            if error is None and not self._told:
                raise
        finally:
            self._close_log()

    async def submit(self, image_hwc: Image, *, truth: int | None = None) -> Result:
        """Answer one image.

        Args:
            image_hwc: uint8 [height, width, channels] of the bundle's input.
            truth: Its class index, where that is known: for the log and the report's accuracy.

        Returns:
            Its result, by the deadline, counted from this call. Only a device that cannot answer by itself,
            or not in time, gives one that is "late" or, without an answer, "dropped".

        Raises:
            InputError: If the image does not fit, or the agent is not open.
            NetworkError: If every server lacks the model or does not speak the protocol.
            PeerError: If every server refuses what the agent sends.
        """
        run = self._running()
        check_image(image_hwc, run.bundle.manifest.input)
        # The result may be there before `push` returns.
        future = self._replies.expect(run.captured)
        run.push(np.ascontiguousarray(image_hwc), truth)
        return await future

    async def run(
        self, source: FrameSource | str | Iterable[Image | tuple[Image, int | None]]
    ) -> AsyncIterator[Result]:
        """Capture from a source on the capture clock (the setting `fps`), and yield results as frames end.

        Ends when the source does, or at the settings `frames` and `duration`. Results that are not fetched
        are kept, so fetch them.

        Args:
            source: What `isthmus agent --source` takes; an object with a method `frame`, see
                `FrameSource`; or images as `submit` takes them, alone or each with its class index.

        Raises:
            InputError: If the source cannot be used, or another `run` goes on.
            NetworkError, PeerError: See `submit`.
        """
        run = self._running()
        if self._replies.streaming:
            raise InputError("another run of this agent goes on; wait for its end, or make another agent")
        frames, close = self._open(source, run.bundle.manifest)
        stream = self._replies.open_stream()
        self._capturing = capturing = asyncio.ensure_future(run.capture(frames))
        capturing.add_done_callback(lambda _: self._end_stream())
        try:
            while (result := await stream.get()) is not None:
                yield result
            if capturing.done():
                capturing.result()
            self._running()
        finally:
            capturing.cancel()
            await asyncio.gather(capturing, return_exceptions=True)
            self._capturing = None
            self._replies.close_stream()
            close()

    async def wait_connected(self, timeout_s: float | None = None) -> bool:
        """Wait until a server has been connected once; False if that takes more than `timeout_s` seconds."""
        try:
            await asyncio.wait_for(self._running().was_connected.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    # What the run tells its observer.

    def note(self, text: str) -> None:
        """Pass on one line about something that changed."""
        self._on_note(text)

    def moment(self, moment: Moment) -> None:
        """Take the state of the run; nobody has asked for it."""

    def _load(self) -> tuple[Bundle, WidthBank]:
        given = self._bundle_or_path
        bundle = given if isinstance(given, Bundle) else load_bundle(given)
        return bundle, WidthBank(bundle, threads=self.config.threads, provider=self.config.provider)

    def _running(self) -> AgentRun:
        if self._run is None or self._task is None:
            raise InputError("the agent is not open; use it in 'async with Agent(...) as agent:'")
        if self._task.done():
            self._told = True
            self._task.result()
            raise InputError("the agent has ended; make another for another run")
        return self._run

    def _open(
        self, source: FrameSource | str | Iterable[Image | tuple[Image, int | None]], manifest: Manifest
    ) -> tuple[FrameSource, Callable[[], None]]:
        """Return `source` as one the capture clock can ask, and what closes it."""
        if isinstance(source, str):
            opened = open_source(source, manifest, note=self.note)
            return opened, opened.close
        frames = PictureSource(source, manifest.input) if isinstance(source, Iterable) else source
        return frames, lambda: None

    def _take(self, result: Result) -> None:
        self._replies.take(result)
        if self._on_result is not None:
            self._on_result(result)
        self._end_stream()

    def _end_stream(self) -> None:
        """End the stream of results once its last frame has."""
        capturing, run = self._capturing, self._run
        if capturing is not None and capturing.done() and run is not None and run.open_frames == 0:
            self._replies.end_stream()

    def _on_ended(self, task: asyncio.Task[RunReport]) -> None:
        self._told |= self._replies.fail(None if task.cancelled() else task.exception())

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
