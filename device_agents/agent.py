"""One run of an agent: how its parts hang together, how it starts and how it ends.

The choices are the policy's, the account is the session's, frames are computed by the pipeline and sent by
the flight over the uplink. Everything here lives on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.capture import capture_frames
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.crew import Crew
from isthmus.device_agents.delivery.event_post import EventPost
from isthmus.device_agents.delivery.results import Handout, Result
from isthmus.device_agents.device import Device
from isthmus.device_agents.guard import Guard
from isthmus.device_agents.ledger import Ledger, Observer, RunReport
from isthmus.device_agents.operation.energy import EnergyWatch
from isthmus.device_agents.operation.notify import ServiceManager
from isthmus.device_agents.operation.stating import make_status
from isthmus.device_agents.operation.status import AgentStatus
from isthmus.device_agents.operation.steering import Deadline, steering_socket
from isthmus.device_agents.operation.thermal import ThermalMonitor, ThermalReading
from isthmus.device_agents.operation.vitals import Vitals
from isthmus.device_agents.pipeline import Pipeline
from isthmus.device_agents.sources import FrameSource
from isthmus.device_agents.uplink.flight import plain_points
from isthmus.device_agents.uplink.wiring import make_flight, make_uplink
from isthmus.runtime.bundle import Bundle, PointTable
from isthmus.runtime.control import Policy, make_policy
from isthmus.runtime.events import EventLog, FrameEvent
from isthmus.runtime.session import Session

_EVERY_S = 1.0
_GRACE_S = 0.5  # what frames in flight get beyond their deadline when a run ends
# A head that has not come back for so long never will: the watchdog is to end this process.
_STUCK_S = 30.0


class AgentRun:
    """One run of one bundle on this device. Made on a running event loop.

    Args:
        config: What the agent was told.
        bundle: The verified bundle.
        bank: Its warm sessions.
        source: Where frames come from; None: from `push` alone.
        log: The event log; None: none is kept.
        observer: Who watches.
        on_result: Takes the result of every frame, on the event loop's thread, and must not take long.

    Attributes:
        bundle: What it runs.
        was_connected: Set when a server was connected for the first time.

    Raises:
        InputError: If the policy, the codec or where results go does not fit.
        ArtifactError: If the device's profile, or the file of the results, cannot be opened.
        BundleError: If the bundle's tables cannot be verified.
        MissingExtraError: If results go where a library is needed that is not installed.
    """

    def __init__(
        self,
        config: AgentConfig,
        bundle: Bundle,
        *,
        bank: WidthBank,
        source: FrameSource | None,
        log: EventLog | None,
        observer: Observer,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self._config, self.bundle, self._bank, self._source = config, bundle, bank, source
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._crew = Crew()
        self._settled, self._stopped, self.was_connected = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._capturing: asyncio.Task[None] | None = None
        self._noted, self._hurried, self._form = "", False, True
        self._energy = EnergyWatch(config, note=self._note_from_thread)
        policy = self._make_policy(bundle.points)
        self._handout = Handout(
            bundle.manifest.labels, target=config.results, callback=on_result, note=self._note_from_thread
        )
        self._session = Session(deadline_s=config.deadline_s, queue_limit=config.queue_limit)
        self._post = EventPost(to, note=self._note_from_thread) if (to := config.dashboard) else None
        self._ledger = Ledger(config, bundle, log=log, observer=observer, post=self._post)
        self._manager = ServiceManager()
        monitor = ThermalMonitor() if config.thermal == "auto" else None
        self._vitals = Vitals(config.status, monitor, note=self._note_from_thread)
        device = Device(bundle, bank, codec=config.codec, energy=self._energy)
        self._guard = Guard(session=self._session, device=device, crew=self._crew, on_end=self._on_end)
        self._flight = make_flight(
            config, bundle.manifest, session=self._session, guard=self._guard, owner=self
        )
        self._uplink = make_uplink(config, bundle.manifest, sink=self._flight)
        self._pipeline = Pipeline(
            session=self._session,
            device=device,
            flight=self._flight,
            guard=self._guard,
            send=self._uplink.send,
            policy=policy,
            exit_confidence=config.exit_confidence,
            interval_s=None if source is None else 1.0 / config.fps,
            on_end=self._on_end,
            on_failed=self._crew.fail,
        )
        deadline = Deadline(
            config, session=self._session, flight=self._flight, pipeline=self._pipeline, ledger=self._ledger
        )
        self._steering = None if config.control is None else steering_socket(config, deadline)

    @property
    def captured(self) -> int:
        """Frames captured so far: the number of the next one."""
        return self._pipeline.next_frame

    @property
    def open_frames(self) -> int:
        """Frames captured and not ended."""
        return self._session.open_frames

    async def run(self) -> RunReport:
        """Run until the source ends, a limit of the configuration, or `stop`.

        Every captured frame has ended when this returns.

        Raises:
            InputError, MissingExtraError: If the energy meter that was asked for cannot be used.
            NetworkError: If every server lacks the model or does not speak the protocol.
            PeerError: If every server refuses what the agent sends before any ever answered a frame.
        """
        if self._source is not None:
            await self._energy.begin(self._stopped)
        if self._steering is not None:
            await self._steering.start()
        self._begin()
        crew = self._crew
        self._capturing = crew.start(self._capture())
        try:
            await asyncio.wait({self._capturing, crew.failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._session.open_frames and not crew.failure.done() and not self._hurried:
                await self._settle()
        finally:
            failure = crew.failure.exception() if crew.failure.done() else None
            await crew.dismiss()
            self._close()
            if self._steering is not None:
                await self._steering.close()
            if self._post is not None:
                await asyncio.to_thread(self._post.close)
            await asyncio.to_thread(self._energy.close)
        if failure is not None:
            raise failure
        return self._ledger.report(self._flight, self._handout.lost, self._energy.reading())

    def push(self, image_hwc: NDArray[np.uint8], truth: int | None = None) -> int:
        """Capture a frame now and return its number; it may have ended when this returns.

        Args:
            image_hwc: uint8 [height, width, channels] of the bundle's input.
            truth: Its class index, where that is known.
        """
        frame = self._pipeline.capture(image_hwc, time.monotonic(), truth)
        self._pipeline.advance()
        return frame

    async def capture(self, source: FrameSource) -> None:
        """Capture from `source` on the capture clock until it ends or a limit of the configuration."""
        config = self._config
        await capture_frames(
            source, self._pipeline, fps=config.fps, frames=config.frames, duration_s=config.duration_s
        )

    def stop(self) -> None:
        """Capture no more frames and end those in flight; asked a second time, end them at once."""
        self._hurried = self._stopped.is_set()
        if self._hurried:
            self._settled.set()
        self._stopped.set()
        if self._capturing is not None:
            self._capturing.cancel()

    # What the flight tells its owner.

    def on_form(self, *, as_payload: bool) -> None:
        """See `FlightOwner`."""
        # A policy remembers: only another form is reason enough for another one.
        if as_payload != self._form:
            self._form = as_payload
            points = self.bundle.points if as_payload else plain_points(self.bundle)
            self._pipeline.policy = self._make_policy(points)
        self.was_connected.set()

    def note(self, text: str) -> None:
        """See `FlightOwner`."""
        if text != self._noted:
            self._noted = text
            self._observer.note(text)

    # The tasks of a run.

    def _begin(self) -> None:
        source = "pushed" if self._source is None else self._source.name
        policy = self._pipeline.policy.name
        self._ledger.begin(time.monotonic(), source=source, policy=policy, energy=self._energy)
        if self._source is None:
            self._crew.start(self._energy.begin(None))
        for text in self._bank.notes:
            self.note(text)
        if policy != "local":
            self._crew.start(self._uplink.run())
        self._crew.start(self._watch())
        self._crew.start(self._beat())
        self._manager.ready()

    async def _capture(self) -> None:
        if self._source is None:
            await self._stopped.wait()
        elif not self._stopped.is_set():
            await self.capture(self._source)

    async def _settle(self) -> None:
        """Wait until every frame has ended, but no longer than that can take."""
        self._settled.clear()
        settled: asyncio.Future[Any] = asyncio.ensure_future(self._settled.wait())
        rest_s = self._session.deadline_s * (self._config.queue_limit or 1) + _GRACE_S
        await asyncio.wait({settled, self._crew.failure}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            now_s = time.monotonic()
            self._uplink.check(now_s)
            self._note_link(now_s)
            if self._pipeline.computing_s(now_s) > _STUCK_S:
                self.note("a head does not come back; a service manager's watchdog will end this process")
            else:
                self._manager.alive(f"{self._session.captured} frames")

    async def _beat(self) -> None:
        while True:
            await self._vitals.beat(self._status)
            await asyncio.sleep(_EVERY_S)

    def _note_link(self, now_s: float) -> None:
        link, thermal, energy = self._flight.estimate(now_s), self._vitals.reading, self._energy.reading()
        self._ledger.link(link, now_s, server=self._flight.server, thermal=thermal, energy=energy)

    def _on_end(self, event: FrameEvent, scores_c: NDArray[np.float32] | None = None) -> None:
        self._ledger.frame(event)
        self._handout.give(event, scores_c)
        if self._session.open_frames == 0:
            self._settled.set()

    def _note_from_thread(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self.note, text)

    def _status(self, thermal: ThermalReading, state: str = "running") -> AgentStatus:
        return make_status(
            config=replace(self._config, deadline_s=self._session.deadline_s),
            bundle=self.bundle,
            bank=self._bank,
            ledger=self._ledger,
            flight=self._flight,
            policy=self._pipeline.policy.name,
            thermal=thermal,
            energy=self._energy.reading(),
            open_frames=self._session.open_frames,
            results_lost=self._handout.lost,
            last_note=self._noted,
            state=state,
        )

    def _make_policy(self, points: PointTable) -> Policy:
        points = self._energy.with_joules(points, self.bundle, self._bank.head_s)
        return make_policy(self._config.policy, points, objective=self._config.objective)

    def _close(self) -> None:
        self._manager.stopping()
        self._guard.close()
        self._pipeline.close()
        now_s = time.monotonic()
        for event in self._session.close(now_s, "the run ended"):
            self._on_end(event)
        self._note_link(now_s)
        self._ledger.end(now_s, self._session, reconnects=self._flight.reconnects)
        self._handout.close()
        self._vitals.write(self._status(self._vitals.reading, state="ended"))
