"""The agent: captures frames on a clock, lets the policy choose, computes, sends, ends every frame.

Decides the order of things and how a run starts and ends. The choices are the policy's, the account is the
session's, the connection is the uplink's. Heads run on one worker thread, so that the event loop always
answers.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.crew import Crew
from isthmus.device_agents.device import Device
from isthmus.device_agents.flight import Flight, plain_points
from isthmus.device_agents.guard import Guard, Standby
from isthmus.device_agents.ledger import Ledger, Observer
from isthmus.device_agents.sources import FrameSource
from isthmus.device_agents.stream import Uplink
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.control import Decision, make_policy
from isthmus.runtime.events import EventLog, FrameEvent
from isthmus.runtime.session import FullJitter, RunSummary, Session

_LINK_EVERY_S = 1.0
# Frames in flight when a run ends get what remains until their deadline, and this much more.
_GRACE_S = 0.5
# A camera goes on while the agent is busy, so frames that fell due meanwhile are captured, and superseded by
# the newest. After more than this the process itself was stopped, and nothing was captured.
_LONGEST_LAG_S = 1.0
# A device's answer within this share of the deadline is given whatever the policy says.
_NEXT_TO_NOTHING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run that ended.

    Attributes:
        summary: Its frames.
        connections: How many connections were made.
        reconnects: How often a connection was made again after the first.
        events_lost: Events that could not be written.
    """

    summary: RunSummary
    connections: int
    reconnects: int
    events_lost: int


class Agent:
    """One run of one bundle on this device. Made on a running event loop.

    Args:
        config: What the agent was told.
        bundle: The verified bundle.
        bank: Its warm sessions.
        source: Where frames come from.
        log: The event log; None: none is kept.
        observer: Who watches.

    Raises:
        InputError: If the policy or the codec does not fit the bundle.
        BundleError: If the bundle's tables cannot be verified.
    """

    def __init__(
        self,
        config: AgentConfig,
        bundle: Bundle,
        *,
        bank: WidthBank,
        source: FrameSource,
        log: EventLog | None,
        observer: Observer,
    ) -> None:
        self._config = config
        self._bundle = bundle
        self._source = source
        self._observer = observer
        self._device = Device(bundle, bank, codec=config.codec)
        self._policy = make_policy(config.policy, bundle.points)
        self._session = Session(deadline_s=config.deadline_s)
        self._ledger = Ledger(config, bundle, log=log, observer=observer)
        self._crew = Crew()
        self._guard = Guard(session=self._session, device=self._device, crew=self._crew, on_end=self._on_end)
        self._flight = self._make_flight()
        self._uplink = self._make_uplink()
        self._heads = ThreadPoolExecutor(1, thread_name_prefix="head")
        self._newest: NDArray[np.uint8] | None = None
        self._captured = asyncio.Event()
        self._settled = asyncio.Event()
        self._capturing: asyncio.Task[None] | None = None
        self._stopping = False
        self._noted = ""

    async def run(self) -> RunReport:
        """Run until a limit of the configuration or `stop`; every captured frame has ended when this returns.

        Raises:
            NetworkError: If the server lacks the model or does not speak the protocol.
            PeerError: If the server refuses what the agent sends before it ever answered a frame.
        """
        self._ledger.begin(time.monotonic(), source=self._source.name, policy=self._policy.name)
        crew = self._crew
        if self._policy.name != "local":
            crew.start(self._uplink.run())
        crew.start(self._compute())
        crew.start(self._watch())
        self._capturing = crew.start(self._capture())
        try:
            await asyncio.wait({self._capturing, crew.failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._session.open_frames:
                settled = crew.start(self._wait_settled())
                rest_s = self._config.deadline_s + _GRACE_S
                await asyncio.wait(
                    {settled, crew.failure}, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            failure = crew.failure.exception() if crew.failure.done() else None
            await crew.dismiss()
            self._close()
        if failure is not None:
            raise failure
        return RunReport(
            summary=self._ledger.summary,
            connections=self._flight.connections,
            reconnects=self._flight.reconnects,
            events_lost=self._ledger.events_lost,
        )

    def stop(self) -> None:
        """Capture no more frames and end those in flight; asked a second time, end them at once."""
        if self._stopping:
            self._settled.set()
        self._stopping = True
        if self._capturing is not None:
            self._capturing.cancel()

    # What the flight tells its owner.

    def on_form(self, *, as_payload: bool) -> None:
        """See `FlightOwner`."""
        points = self._bundle.points if as_payload else plain_points(self._bundle)
        self._policy = make_policy(self._config.policy, points)

    def note(self, text: str) -> None:
        """See `FlightOwner`."""
        if text != self._noted:
            self._noted = text
            self._observer.note(text)

    # The tasks of a run.

    async def _capture(self) -> None:
        period_s = 1.0 / self._config.fps
        due_s = time.monotonic()
        # Sums of periods are not exact, and a frame due at the very end would be one too many.
        end_s = due_s + (self._config.duration_s or math.inf) - 1e-6
        frames = self._config.frames or math.inf
        free_s = due_s
        while not self._stopping and self._session.captured < frames and due_s < end_s:
            now_s = time.monotonic()
            if now_s < due_s:
                await asyncio.sleep(due_s - now_s)
                free_s = time.monotonic()
                continue
            if now_s - due_s > _LONGEST_LAG_S:
                due_s = now_s
            image, truth = self._source.frame()
            self._settled.clear()
            # Captured when it was due: what we were late to notice is part of the frame's latency.
            _, superseded = self._session.capture(due_s, truth=truth)
            self._newest = image
            self._on_end(superseded)
            self._captured.set()
            due_s += period_s
            # Frames that fell due meanwhile are captured in one go, unless that itself takes a period.
            if time.monotonic() - free_s >= period_s:
                await asyncio.sleep(0)
                free_s = time.monotonic()

    async def _compute(self) -> None:
        while True:
            frame = self._session.take()
            if frame is None:
                self._captured.clear()
                await self._captured.wait()
                continue
            assert self._newest is not None
            await self._process(frame, self._newest)

    async def _process(self, frame: int, image: NDArray[np.uint8]) -> None:
        decision = self._decide(frame)
        if decision.action == "drop":
            self._on_end(self._session.drop(frame, time.monotonic(), decision.reason))
            return
        point = decision.point
        self._session.decided(frame, point=point, probe=decision.probe, reason=decision.reason)
        on_thread = partial(asyncio.get_running_loop().run_in_executor, self._heads)
        if decision.action == "local":
            answer = await on_thread(self._device.local, image)
            self._on_end(self._session.device(frame, time.monotonic(), "local", answer))
            return
        assert point is not None
        if decision.action == "exit":
            answer, head_s = await on_thread(self._device.exit_from_image, image, point)
            self._session.computed(frame, head_s=head_s, encode_s=None)
            self._on_end(self._session.device(frame, time.monotonic(), "exit", answer))
            return
        encoded = await on_thread(self._device.encode, image, point, self._flight.as_payload)
        self._session.computed(frame, head_s=encoded.head_s, encode_s=encoded.encode_s)
        if self._guard.watch(frame, self._standby(decision, image, encoded.latent_chw)):
            self._flight.launch(frame, encoded, send=self._uplink.send)

    def _standby(
        self, decision: Decision, image: NDArray[np.uint8], latent_chw: NDArray[np.uint8]
    ) -> Standby:
        """Return how the device would answer: as the policy says, or else as well as it can.

        A policy may rather wait for the server than stop waiting early. But once the server is known not to
        answer any answer is better than none, and one that takes next to no time costs no waiting.
        """
        fallback, seconds, timed = decision.fallback, decision.fallback_s, True
        if fallback is None:
            fallback, seconds = self._device.quickest()
            timed = seconds <= _NEXT_TO_NOTHING * self._config.deadline_s
        return Standby(
            image_hwc=image, latent_chw=latent_chw, fallback=fallback, fallback_s=seconds, timed=timed
        )

    def _decide(self, frame: int) -> Decision:
        now_s = time.monotonic()
        return self._policy.decide(
            self._flight.estimate(now_s),
            self._device.state(server_s=self._flight.server_s),
            budget_s=self._session.deadline_of(frame) - now_s - self._guard.margin_s,
            now_s=now_s,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LINK_EVERY_S)
            now_s = time.monotonic()
            self._uplink.check(now_s)
            self._ledger.link(self._flight.estimate(now_s), now_s)

    def _on_end(self, event: FrameEvent | None) -> None:
        if event is not None:
            self._ledger.frame(event)
            if self._session.open_frames == 0:
                self._settled.set()

    async def _wait_settled(self) -> None:
        await self._settled.wait()

    def _make_flight(self) -> Flight:
        config, manifest = self._config, self._bundle.manifest
        return Flight(
            manifest=manifest,
            model=config.model or manifest.name,
            session=self._session,
            guard=self._guard,
            owner=self,
            most_in_flight=math.ceil(config.fps * config.deadline_s) + 1,
            busy_backoff=FullJitter(base_s=0.05, cap_s=1.0),
        )

    def _make_uplink(self) -> Uplink:
        config = self._config
        return Uplink(
            server=config.server,
            model=config.model or self._bundle.manifest.name,
            run_id=uuid.uuid4().hex[:12],
            sink=self._flight,
            backoff=FullJitter(base_s=0.1, cap_s=config.retry_cap_s),
            connect_timeout_s=config.connect_timeout_s,
        )

    def _close(self) -> None:
        self._guard.close()
        self._heads.shutdown(wait=True, cancel_futures=True)
        now_s = time.monotonic()
        for event in self._session.close(now_s, "the run ended"):
            self._on_end(event)
        self._ledger.link(self._flight.estimate(now_s), now_s)
        self._ledger.end(now_s, self._session, reconnects=self._flight.reconnects)
