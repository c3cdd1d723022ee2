"""What a run leaves behind: the event log, the totals, and word to whoever watches.

Decides what is written and when; refuses to know how frames are computed or sent. A log that cannot be
written any more is said once and the run goes on: an agent answers frames, the log is only its memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import isthmus
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.delivery.event_post import EventPost
from isthmus.device_agents.operation.energy import EnergyReading, EnergyWatch
from isthmus.device_agents.operation.thermal import ThermalReading
from isthmus.device_agents.uplink.flight import Flight
from isthmus.runtime.bundle import Bundle
from isthmus.runtime.control import LinkEstimate
from isthmus.runtime.events import DeadlineEvent, EndEvent, Event, EventLog, FrameEvent, LinkEvent, RunEvent
from isthmus.runtime.session import RunSummary, Session, Tally
from isthmus.runtime.wire.certificate import read_certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The agent about once a second, for people.

    Attributes:
        elapsed_s: Seconds since the run began.
        link: What is believed of the link.
        last: The frame that ended last; None before the first.
        summary: The run so far.
        server: Address of the server that is connected, or was last; None before the first.
    """

    elapsed_s: float
    link: LinkEstimate
    last: FrameEvent | None
    summary: RunSummary
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run that ended.

    Attributes:
        summary: Its frames.
        connections: How many connections were made.
        reconnects: How often a connection was made again after the first.
        events_lost: Events that could not be written.
        results_lost: Results that could not be handed out.
        energy: The joules of the run, where its meter knows them.
    """

    summary: RunSummary
    connections: int
    reconnects: int
    events_lost: int
    results_lost: int = 0
    energy: EnergyReading = field(default_factory=EnergyReading)


class Observer(Protocol):
    """Who watches a run."""

    def note(self, text: str) -> None:
        """Take one line about something that changed."""
        ...

    def moment(self, moment: Moment) -> None:
        """Take the state of the run, about once a second."""
        ...


class Ledger:
    """Records one run.

    Args:
        config: What the agent was told.
        bundle: What it runs.
        log: The event log; None: none is kept.
        post: Takes the same events to a dashboard; None: there is none.
        observer: Who watches.

    Attributes:
        last: The frame that ended last; None before the first.
    """

    def __init__(
        self,
        config: AgentConfig,
        bundle: Bundle,
        *,
        log: EventLog | None,
        observer: Observer,
        post: EventPost | None = None,
    ) -> None:
        self._config = config
        self._bundle = bundle
        self._log = log
        self._post = post
        self._observer = observer
        self._tally = Tally()
        self.last: FrameEvent | None = None
        self._said_failed = False
        self._began_s = 0.0

    @property
    def summary(self) -> RunSummary:
        """The run so far."""
        return self._tally.summary()

    @property
    def events_lost(self) -> int:
        """Events that could not be written."""
        return self._log.lost if self._log else 0

    def begin(self, now_s: float, *, source: str, policy: str, energy: EnergyWatch) -> None:
        """Record the start of the run and what stays constant in it."""
        config, bundle = self._config, self._bundle
        self._began_s = now_s
        self._write(
            RunEvent(
                at_s=now_s,
                unix_s=time.time(),
                bundle=bundle.manifest.name,
                bundle_digest=bundle.digest,
                source=source,
                policy=policy,
                server=",".join(config.servers),
                deadline_s=config.deadline_s,
                fps=config.fps,
                widths=bundle.manifest.widths,
                labels=bundle.manifest.labels,
                teacher_utility=bundle.points.teacher_utility,
                isthmus_version=isthmus.__version__,
                agent=config.name,
                certificate_not_after_unix_s=_certificate_end(config),
                idle_w=energy.idle_w,
                radio=energy.radio,
            )
        )

    def frame(self, event: FrameEvent) -> None:
        """Record the end of a frame."""
        self.last = event
        self._tally.add(event)
        self._write(event)

    def deadline(self, now_s: float, deadline_s: float) -> None:
        """Record that frames captured from now on have another deadline."""
        self._write(DeadlineEvent(at_s=now_s, deadline_s=deadline_s))

    def elapsed_s(self, now_s: float) -> float:
        """Return the seconds since the run began."""
        return now_s - self._began_s

    def link(
        self,
        link: LinkEstimate,
        now_s: float,
        *,
        server: str | None,
        thermal: ThermalReading,
        energy: EnergyReading,
    ) -> None:
        """Record what is believed of the link and read from the device, and show the state of the run."""
        self._write(
            LinkEvent(
                at_s=now_s,
                connected=link.connected,
                rate_bytes_per_s=link.rate_bytes_per_s,
                rtt_s=link.rtt_s,
                backlog_bytes=link.backlog_bytes,
                server=server,
                temperature_c=thermal.temperature_c,
                throttled=thermal.throttled,
                energy_j=energy.energy_j,
                energy_source=energy.source,
            )
        )
        self._observer.moment(
            Moment(
                elapsed_s=self.elapsed_s(now_s),
                link=link,
                last=self.last,
                summary=self.summary,
                server=server,
            )
        )

    def end(self, now_s: float, session: Session, *, reconnects: int) -> None:
        """Record the end of the run; every frame has ended before."""
        outcomes = {str(outcome): count for outcome, count in session.outcomes.items()}
        self._write(EndEvent(at_s=now_s, captured=session.captured, outcomes=outcomes, reconnects=reconnects))

    def report(self, flight: Flight, results_lost: int, energy: EnergyReading) -> RunReport:
        """Return what the run amounted to."""
        return RunReport(
            summary=self.summary,
            connections=flight.connections,
            reconnects=flight.reconnects,
            events_lost=self.events_lost,
            results_lost=results_lost,
            energy=energy,
        )

    def _write(self, event: Event) -> None:
        if self._post is not None:
            self._post.write(event)
        if self._log is None:
            return
        self._log.write(event)
        if self._log.failed and not self._said_failed:
            self._said_failed = True
            self._observer.note(f"event log: {self._log.failed}; the run goes on without it")


def _certificate_end(config: AgentConfig) -> float | None:
    if config.certificate is None:
        return None
    return read_certificate(config.certificate, "this client's certificate").not_after.timestamp()
