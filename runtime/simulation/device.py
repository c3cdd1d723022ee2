"""One agent on a virtual clock: the live agent's order of things around the real session and policy.

Decides nothing that the live agent does not: the newest frame wins, one head at a time, a guard instant per
frame, the policy asked at the moment the worker is free.
"""

from __future__ import annotations

import math
import random
from typing import Literal

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.control import Decision, LinkEstimator, Policy
from isthmus.runtime.events import EndEvent, LinkEvent
from isthmus.runtime.session import Session
from isthmus.runtime.simulation.account import Account, DeviceRun, EventSink
from isthmus.runtime.simulation.clock import VirtualClock
from isthmus.runtime.simulation.compute import SimDevice
from isthmus.runtime.simulation.energy import EnergyAccount
from isthmus.runtime.simulation.guard import SimGuard, Standby
from isthmus.runtime.simulation.uplink import SimUplink
from isthmus.runtime.simulation.world import DeviceWorld, payload_bytes

# As in the live agent: when it answers by itself whatever the policy says, and how long it waits at the end.
_NEXT_TO_NOTHING = 0.02
_GRACE_S = 0.5
_LINK_EVERY_S = 1.0
# The two classes of a simulated source, and of its answers.
WRONG, RIGHT = 0, 1


def run_device(
    world: DeviceWorld,
    policy: Policy,
    *,
    estimator: LinkEstimator | None = None,
    sink: EventSink | None = None,
) -> DeviceRun:
    """Run `policy` in `world` and return every frame's end.

    Args:
        world: Device, link and server.
        policy: Asked for every frame, as by the live agent.
        estimator: What learns the link; None: a new one.
        sink: Takes every event as it happens, for an event log.
    """
    return _Agent(world, policy, estimator or LinkEstimator(overhead_bytes=world.overhead_bytes), sink).run()


class _Agent:
    def __init__(
        self, world: DeviceWorld, policy: Policy, estimator: LinkEstimator, sink: EventSink | None
    ) -> None:
        self._world = world
        self._policy = policy
        self._sink = sink
        self._rng = random.Random(f"device {world.seed}")
        self._clock = VirtualClock(world.start_s)
        self._session = Session(deadline_s=world.deadline_s, queue_limit=world.queue_limit)
        self._account = Account(world.points, sink)
        self._device = SimDevice(world, self._rng)
        self._guard = SimGuard(
            session=self._session,
            device=self._device,
            clock=self._clock,
            wake=self._wake,
            answered=self._by_device,
            on_end=self._account.add,
        )
        self._uplink = SimUplink(
            world,
            clock=self._clock,
            session=self._session,
            estimator=estimator,
            owner=self,
            rng=random.Random(f"link {world.seed}"),
        )
        energy = world.energy
        self._energy = None if energy is None else EnergyAccount(energy, world.start_s)
        self._energy_source = None if energy is None else energy.source
        self._records = {record.point: record for record in world.points.records}
        self._luck = world.luck()
        self._points: dict[int, OperatingPoint] = {}
        self._computing = False

    def run(self) -> DeviceRun:
        world, clock, account = self._world, self._clock, self._account
        if self._policy.name != "local":
            self._uplink.start()
        for second in range(1, math.floor(world.duration_s) + 1):
            clock.at(world.start_s + second * _LINK_EVERY_S, self._watch)
        for instant_s in world.instants():
            clock.at(instant_s, self._capture)
        clock.run(world.start_s + world.duration_s)
        if self._session.open_frames:
            clock.run(clock.now_s + world.deadline_s + _GRACE_S)
        for event in self._session.close(clock.now_s, "the run ended"):
            account.add(event)
        if self._sink is not None:
            outcomes = {str(outcome): count for outcome, count in self._session.outcomes.items()}
            captured, reconnects = self._session.captured, self._uplink.reconnects
            self._sink(
                EndEvent(at_s=clock.now_s, captured=captured, outcomes=outcomes, reconnects=reconnects)
            )
        uplink = self._uplink
        return account.run(
            wire_bytes=uplink.wire_bytes,
            reconnects=uplink.reconnects,
            ways=uplink.ways,
            device_j=self._energy_j(),
            device_source=self._energy_source,
        )

    # A frame's way through the device.

    def _capture(self) -> None:
        _, superseded = self._session.capture(self._clock.now_s, truth=RIGHT)
        if superseded is not None:
            self._account.add(superseded)
        self._compute()

    def _compute(self) -> None:
        while not self._computing:
            frame = self._session.take()
            if frame is None:
                return
            decision = self._decide(frame)
            if decision.action == "drop":
                event = self._session.drop(frame, self._clock.now_s, decision.reason)
                assert event is not None
                self._account.add(event)
            else:
                self._session.decided(
                    frame, point=decision.point, probe=decision.probe, reason=decision.reason
                )
                self._computing = True
                self._begin(frame, decision)

    def _begin(self, frame: int, decision: Decision) -> None:
        wake_s = self._wake()
        now_s = self._clock.now_s + wake_s
        self._session.began(frame, self._clock.now_s)
        if decision.action == "local":
            answer_s = self._device.answer("local")
            self._clock.at(now_s + answer_s, self._on_alone, frame, decision, None, wake_s, answer_s)
            return
        assert decision.point is not None
        head_s = self._device.heads[decision.point.width_index].run()
        if decision.action == "exit":
            answer_s = self._device.answer("exit")
            done_s = now_s + head_s + answer_s
            self._clock.at(done_s, self._on_alone, frame, decision, head_s, wake_s, answer_s)
            return
        encode_s = self._device.encode.run()
        done_s = now_s + head_s + encode_s
        self._clock.at(done_s, self._on_encoded, frame, decision, head_s, encode_s, wake_s)

    def _decide(self, frame: int) -> Decision:
        now_s = self._clock.now_s
        return self._policy.decide(
            self._uplink.estimate(now_s),
            self._device.state(server_s=self._uplink.server_s),
            budget_s=self._session.deadline_of(frame) - now_s - self._guard.margin_s,
            now_s=now_s,
        )

    def _on_alone(
        self, frame: int, decision: Decision, head_s: float | None, wake_s: float, answer_s: float
    ) -> None:
        assert decision.action in ("exit", "local")
        self._session.computed(frame, head_s=head_s, encode_s=None, handover_s=wake_s)
        self._by_device(frame, decision.action, decision.point, answer_s=answer_s)
        self._computing = False
        self._compute()

    def _on_encoded(
        self, frame: int, decision: Decision, head_s: float, encode_s: float, wake_s: float
    ) -> None:
        point = decision.point
        assert point is not None
        self._session.computed(
            frame, head_s=head_s, encode_s=encode_s, handover_s=wake_s, now_s=self._clock.now_s
        )
        fallback, seconds, timed = decision.fallback, decision.fallback_s, True
        if fallback is None:
            fallback, seconds = self._device.quickest()
            timed = seconds <= _NEXT_TO_NOTHING * self._world.deadline_s
        standby = Standby(point=point, fallback=fallback, fallback_s=seconds, timed=timed)
        if self._guard.watch(frame, standby):
            self._points[frame] = point
            self._uplink.launch(frame, payload_bytes(self._records[point], self._luck[frame]))
        self._computing = False
        self._compute()

    def _watch(self) -> None:
        self._uplink.check()
        if self._sink is not None:
            now_s = self._clock.now_s
            link = self._uplink.estimate(now_s)
            self._sink(
                LinkEvent(
                    at_s=now_s,
                    connected=link.connected,
                    rate_bytes_per_s=link.rate_bytes_per_s,
                    rtt_s=link.rtt_s,
                    backlog_bytes=link.backlog_bytes,
                    energy_j=self._energy_j(),
                    energy_source=self._energy_source,
                )
            )

    def _energy_j(self) -> float | None:
        if self._energy is None:
            return None
        return self._energy.energy_j(self._clock.now_s, computed_s=self._device.computed_s)

    def _wake(self) -> float:
        return self._world.wake_s.draw(self._rng)

    # Ends.

    def crossed(self, begin_s: float, end_s: float, *, sent_bytes: int = 0, received_bytes: int = 0) -> None:
        """See `uplink.Owner`."""
        if self._energy is not None:
            self._energy.crossed(begin_s, end_s, sent_bytes=sent_bytes, received_bytes=received_bytes)

    def recall(self, frame: int, reason: str) -> None:
        """See `uplink.Owner`."""
        self._guard.recall(frame, reason)

    def answered(self, frame: int, *, queue_s: float, compute_s: float) -> None:
        """See `uplink.Owner`."""
        answer = self._answer(frame, "remote", self._points.pop(frame))
        event = self._session.remote(
            frame, self._clock.now_s, answer, server_queue_s=queue_s, server_compute_s=compute_s
        )
        if event is not None:
            self._guard.forget(frame)
            self._account.add(event)

    def _by_device(
        self,
        frame: int,
        kind: Literal["exit", "local"],
        point: OperatingPoint | None,
        *,
        answer_s: float | None = None,
    ) -> None:
        answer = self._answer(frame, kind, point)
        event = self._session.device(frame, self._clock.now_s, kind, answer, answer_s=answer_s)
        if event is not None:
            self._account.add(event)

    def _answer(self, frame: int, kind: str, point: OperatingPoint | None) -> int:
        return RIGHT if self._account.worth(kind, point) > self._luck[frame].hardness else WRONG
