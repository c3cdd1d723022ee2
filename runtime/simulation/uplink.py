"""The way to the server and back on a virtual clock: what the agent's flight and its stream do.

The same rules as the live ones: a credit bounds what is unanswered, a frame is asked for at the last moment,
a lost connection recalls all that waits and is made again after a pause with full jitter, a hung one is
noticed by a ping, a busy server is left alone for a while.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.runtime.control import LinkEstimate, LinkEstimator
from isthmus.runtime.links import SimLink
from isthmus.runtime.session import FullJitter, Session
from isthmus.runtime.session.timing import RecentMedian
from isthmus.runtime.simulation.clock import VirtualClock
from isthmus.runtime.simulation.server import ServerAnswer, SimServer
from isthmus.runtime.simulation.world import DeviceWorld, inside

MOST_UNANSWERED_BYTES = 1 << 20
# The server's clock starts with its host, so it has nothing to do with ours.
_SERVER_CLOCK_S = 1000.0
# As the channel's options say: a ping after so long without a byte, and how long its answer may take.
_PING_EVERY_S, _PING_TIMEOUT_S, _PING_BYTES = 10.0, 5.0, 17
# Connecting: TCP and HTTP/2's settings have 2 s, the questions about server and model 5 s each; every fourth
# attempt is a longer one. Between attempts the default settings' pause.
_CONNECT_TRIPS_S, _CONNECT_BYTES = (2.0, 0.0, 5.0, 5.0), 1200
_LONG_ATTEMPT_EVERY, _LONG_FACTOR = 4, 2.5
_RETRY_CAP_S = 1.5
_ANSWER_TIMEOUT_S = 30.0


class Owner(Protocol):
    """Who ends the frames; the simulated agent."""

    def recall(self, frame: int, reason: str) -> None:
        """Answer `frame` on the device, because the server will not."""
        ...

    def answered(self, frame: int, *, queue_s: float, compute_s: float) -> None:
        """Take the server's answer to `frame`, which came just now."""
        ...

    def crossed(self, begin_s: float, end_s: float, *, sent_bytes: int = 0, received_bytes: int = 0) -> None:
        """Note what the radio carries from `begin_s` until `end_s`."""
        ...


@dataclass(slots=True)
class _Outgoing:
    nbytes: int
    deadline_s: float


class SimUplink:
    """Carries frames to a simulated server.

    Attributes:
        connections: How many connections were made.
        wire_bytes: Payload and overhead of everything that was sent.
        ways: As in `DeviceRun`.
    """

    def __init__(
        self,
        world: DeviceWorld,
        *,
        clock: VirtualClock,
        session: Session,
        estimator: LinkEstimator,
        owner: Owner,
        rng: random.Random,
    ) -> None:
        self._world = world
        self._clock = clock
        self._session = session
        self._estimator = estimator
        self._owner = owner
        self._rng = rng
        self._most_in_flight = math.ceil(world.fps * world.deadline_s) + 1
        self._backoff = FullJitter(base_s=0.1, cap_s=_RETRY_CAP_S, rng=rng)
        self._busy = FullJitter(base_s=0.05, cap_s=1.0, rng=rng)
        self._busy_until_s = -math.inf
        self._server_times = RecentMedian()
        self._server = SimServer(world, rng)
        self.connections = 0
        self.connected = False
        self.wire_bytes = 0
        self.ways: list[tuple[float, float]] = []
        self._pinging = False
        self._forget()

    @property
    def reconnects(self) -> int:
        """How often a connection was made again after the first."""
        return max(0, self.connections - 1)

    @property
    def server_s(self) -> float:
        """Seconds the server's part has taken lately."""
        return self._server_times.seconds

    def start(self) -> None:
        """Connect for the first time, unless the server cannot be reached."""
        for begin_s, _ in self._world.outages:
            self._clock.at(begin_s, self._lost, None)
        if inside(self._clock.now_s, self._world.outages):
            self._retry()
        elif self._world.connect_s > 0:
            self._clock.at(self._clock.now_s + self._world.connect_s, self._connect, self._connection)
        else:
            self._connect(self._connection)

    def estimate(self, now_s: float) -> LinkEstimate:
        """Return what is believed of the link; a server that is busy counts as not there for a while."""
        queued = [frame.nbytes for frame in self._outgoing.values() if frame.deadline_s > now_s]
        estimate = self._estimator.estimate(now_s, queued_frames=len(queued), queued_bytes=sum(queued))
        return replace(estimate, connected=False) if now_s < self._busy_until_s else estimate

    def launch(self, frame: int, nbytes: int) -> None:
        """Send a frame that the guard watches, unless something stands in the way."""
        obstacle = self._obstacle(nbytes)
        if obstacle is not None:
            self._owner.recall(frame, obstacle)
            return
        self._outgoing[frame] = _Outgoing(nbytes, self._session.deadline_of(frame))
        self._unanswered[frame] = nbytes
        self._queue.append(frame)
        self._write()

    def check(self) -> None:
        """Once a second: give a connection up that has been silent for too long."""
        now_s = self._clock.now_s
        if not self.connected:
            return
        if self._sent_s and now_s - next(iter(self._sent_s.values())) > _ANSWER_TIMEOUT_S:
            self._lost(self._connection)
        elif not self._pinging and now_s - self._heard_s >= _PING_EVERY_S:
            self._pinging = True
            back_s = self._link.send(_PING_BYTES, now_s) + self._world.delay_s
            self._clock.at(back_s, self._on_pong, self._connection)
            self._clock.at(now_s + _PING_TIMEOUT_S, self._on_ping_timeout, self._connection)

    def _forget(self) -> None:
        """Start a connection's state afresh; what is still on its way of the old one is lost with it."""
        self._connection = object()
        self._link = SimLink(self._world.trace, delay_s=self._world.delay_s)
        self._outgoing: dict[int, _Outgoing] = {}
        self._unanswered: dict[int, int] = {}
        self._queue: deque[int] = deque()
        self._sent_s: dict[int, float] = {}
        self._taken: deque[tuple[float, int]] = deque()
        self._taken_bytes = 0
        self._writing = False
        self._arrived_s = self._back_s = -math.inf
        self._heard_s = self._clock.now_s
        self._pinging = False

    def _obstacle(self, nbytes: int) -> str | None:
        if not self.connected:
            return "the connection was lost"
        count, waiting = len(self._unanswered), sum(self._unanswered.values())
        if count >= self._most_in_flight or (count and waiting + nbytes > MOST_UNANSWERED_BYTES):
            return f"{count} frames ({waiting} B) are unanswered"
        return None

    # Sending.

    def _write(self) -> None:
        """Write what waits until the transport has taken as much as it does."""
        while self._queue and not self._writing:
            frame = self._queue.popleft()
            outgoing = self._outgoing.pop(frame)
            now_s = self._clock.now_s
            if outgoing.deadline_s <= now_s:
                self._owner.recall(frame, "the link did not take it in time")
            if not self._session.sent(frame, now_s, outgoing.nbytes):
                self._unanswered.pop(frame, None)
                continue
            self._estimator.on_sent(frame, outgoing.nbytes, now_s)
            self._sent_s[frame] = now_s
            self._transmit(frame, outgoing, now_s)

    def _transmit(self, frame: int, outgoing: _Outgoing, now_s: float) -> None:
        world, rng = self._world, self._rng
        nbytes = outgoing.nbytes + world.overhead_bytes
        self.wire_bytes += nbytes
        arrival_s = self._link.send(nbytes, now_s)
        self._owner.crossed(now_s, arrival_s - world.delay_s, sent_bytes=nbytes)
        # One connection keeps its order, whatever the jitter.
        self._arrived_s = max(self._arrived_s, arrival_s + world.jitter_s.draw(rng))
        budget_s = outgoing.deadline_s - now_s
        self.ways.append((world.deadline_s - budget_s, self._arrived_s - now_s))
        self._clock.at(self._arrived_s, self._on_server, self._connection, frame, budget_s)
        self._taken.append((arrival_s - world.delay_s, nbytes))
        self._taken_bytes += nbytes
        self._hold(now_s)

    def _hold(self, now_s: float) -> None:
        while self._taken and self._taken[0][0] <= now_s:
            self._taken_bytes -= self._taken.popleft()[1]
        self._writing = self._taken_bytes > self._world.transport_bytes
        if self._writing:
            self._clock.at(self._taken[0][0], self._resume, self._connection)

    def _resume(self, connection: object) -> None:
        if connection is self._connection:
            self._hold(self._clock.now_s)
            self._write()

    # The server, and the way back.

    def _on_server(self, connection: object, frame: int, budget_s: float) -> None:
        if connection is not self._connection:
            return
        answer = self._server.answer(self._clock.now_s, budget_s)
        back_s = answer.ready_s + self._world.delay_s + self._world.jitter_s.draw(self._rng)
        self._back_s = max(self._back_s, back_s)
        self._clock.at(self._back_s, self._on_answer, connection, frame, answer)

    def _on_answer(self, connection: object, frame: int, answer: ServerAnswer) -> None:
        if connection is not self._connection:
            return
        now_s = self._clock.now_s
        self._heard_s, self._pinging = now_s, False
        self._owner.crossed(now_s, now_s, received_bytes=self._world.overhead_bytes)
        self._unanswered.pop(frame, None)
        self._sent_s.pop(frame, None)
        # A refusal tells no times.
        tells = self._world.server_clock and answer.outcome != "busy"
        clock_ns = round((answer.received_s + _SERVER_CLOCK_S) * 1e9) if tells else None
        told_s = answer.queue_s + answer.compute_s
        self._estimator.on_delivered(frame, now_s, server_received_ns=clock_ns, server_s=told_s)
        if answer.outcome == "ok":
            self._server_times.add(told_s)
            self._busy.reset()
            self._backoff.reset()
            self._owner.answered(frame, queue_s=answer.queue_s, compute_s=answer.compute_s)
            return
        if answer.outcome == "busy":
            self._busy_until_s = now_s + self._busy.next_s()
        self._owner.recall(frame, f"the server says {answer.outcome}")

    # Connections.

    def _on_pong(self, connection: object) -> None:
        if connection is self._connection:
            self._heard_s, self._pinging = self._clock.now_s, False

    def _on_ping_timeout(self, connection: object) -> None:
        silent_s = self._clock.now_s - self._heard_s
        if connection is self._connection and self._pinging and silent_s >= _PING_TIMEOUT_S:
            self._lost(connection)

    def _lost(self, connection: object | None) -> None:
        """Lose `connection`, or whichever there is; nothing if another has taken its place."""
        if not self.connected or connection not in (None, self._connection):
            return
        self.connected = False
        self._estimator.on_disconnected(self._clock.now_s)
        self._forget()
        for frame in self._session.unanswered():
            self._owner.recall(frame, "the connection was lost")
        self._retry()

    def _retry(self) -> None:
        self._clock.at(self._clock.now_s + self._backoff.next_s(), self._attempt)

    def _attempt(self) -> None:
        now_s = self._clock.now_s
        if inside(now_s, self._world.outages):
            self._retry()
            return
        self._forget()
        long = self._backoff.attempts % _LONG_ATTEMPT_EVERY == _LONG_ATTEMPT_EVERY - 1
        at_s = until_s = now_s
        for patience_s in _CONNECT_TRIPS_S:
            until_s += patience_s * (_LONG_FACTOR if long else 1.0)
            at_s = self._link.send(_CONNECT_BYTES // len(_CONNECT_TRIPS_S), at_s) + self._world.delay_s
            if at_s > until_s:
                # An attempt that took so long needs no pause on top.
                self._clock.at(max(until_s, now_s + self._backoff.next_s()), self._attempt)
                return
        self._clock.at(at_s, self._connect, self._connection)

    def _connect(self, connection: object) -> None:
        if connection is not self._connection or inside(self._clock.now_s, self._world.outages):
            self._retry()
            return
        self.connected = True
        self.connections += 1
        self._heard_s = self._clock.now_s
        self._busy_until_s = -math.inf
        self._estimator.on_connected(self._clock.now_s)
