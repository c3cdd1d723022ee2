"""What a simulated run amounts to: every frame's end, and what its answer was worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.events import EndEvent, FrameEvent, LinkEvent, Outcome
from isthmus.runtime.session import RunSummary, Tally

EventSink = Callable[[FrameEvent | LinkEvent | EndEvent], None]

_IN_TIME: tuple[Outcome, ...] = ("remote", "exit", "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRun:
    """What a simulated run amounts to.

    Attributes:
        frames: How each frame ended, in the order of their ends. Their `truth` is 1 and their `answer` 1 if
            right, 0 if not, drawn from the measured accuracy of what gave it.
        summary: The same, added up.
        utility: Mean over all frames of the measured accuracy of what answered in time; 0 for a frame that
            nothing answered in time.
        hit_share: Share of frames answered in time, by whomever.
        remote_share: Share of frames answered in time by the server.
        payload_bytes: Payloads of all frames that were sent.
        wire_bytes: The same with overhead.
        energy_j: Joules of the device from the start to the end, where the world knows its watts. Else those
            beyond rest by the table's `energy_j`, and None unless it knows them for all that was computed.
        energy_source: What they are marked with: `model:` and the profile's name, or `points.json`.
        reconnects: How often the connection was made again.
        ways: Per frame that was sent, seconds from capture until it left and from there until the server had
            it; infinity for one that never arrived.
    """

    frames: list[FrameEvent]
    summary: RunSummary
    utility: float
    hit_share: float
    remote_share: float
    payload_bytes: int
    wire_bytes: int
    energy_j: float | None
    energy_source: str | None
    reconnects: int
    ways: list[tuple[float, float]]


class Account:
    """Adds up the ends of frames."""

    def __init__(self, points: PointTable, sink: EventSink | None) -> None:
        """Judge answers by the measured table `points`; hand every end on to `sink`."""
        self._records = {record.point: record for record in points.records}
        self._exits = {answer.width_index: answer.utility for answer in points.exits}
        self._local = None if points.local is None else points.local.utility
        self._sink = sink
        self._frames: list[FrameEvent] = []
        self._tally = Tally()
        self._utility = 0.0
        self._payload_bytes = 0
        self._energy_j: float | None = 0.0

    def worth(self, kind: str, point: OperatingPoint | None) -> float:
        """Return the accuracy of an answer: `remote` or `exit` at a point, or `local`; 0 for any other."""
        if kind == "remote" and point is not None:
            return self._records[point].utility
        if kind == "exit" and point is not None:
            return self._exits[point.width_index]
        if kind == "local":
            assert self._local is not None
            return self._local
        return 0.0

    def add(self, event: FrameEvent) -> None:
        """Count the end of one frame."""
        self._utility += self.worth(event.outcome, event.point)
        self._payload_bytes += event.payload_bytes
        self._frames.append(event)
        self._tally.add(event)
        self._add_energy(event)
        if self._sink is not None:
            self._sink(event)

    def run(
        self,
        *,
        wire_bytes: int,
        reconnects: int,
        ways: list[tuple[float, float]],
        device_j: float | None = None,
        device_source: str | None = None,
    ) -> DeviceRun:
        """Return the run as counted so far, with what the uplink knows of it and what the device drew."""
        of_table = None if self._energy_j is None else "points.json"
        summary = self._tally.summary()
        total = max(1, summary.captured)
        return DeviceRun(
            frames=self._frames,
            summary=summary,
            utility=self._utility / total,
            hit_share=sum(summary.outcomes[kind] for kind in _IN_TIME) / total,
            remote_share=summary.outcomes["remote"] / total,
            payload_bytes=self._payload_bytes,
            wire_bytes=wire_bytes,
            energy_j=self._energy_j if device_j is None else device_j,
            energy_source=device_source or of_table,
            reconnects=reconnects,
            ways=ways,
        )

    def _add_energy(self, event: FrameEvent) -> None:
        if event.head_s is None and event.outcome == "dropped":
            return  # never computed
        energy_j = None
        if event.point is not None and event.outcome != "local" and event.point in self._records:
            energy_j = self._records[event.point].energy_j
        self._energy_j = None if self._energy_j is None or energy_j is None else self._energy_j + energy_j
