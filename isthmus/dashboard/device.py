"""One agent as the dashboard knows it, from its events alone.

Pure: instants are the dashboard's own monotonic seconds, and the shift between them and the agent's clock is
told by whoever brought the events.
"""

from __future__ import annotations

from collections import deque

from isthmus.dashboard.history import History
from isthmus.runtime.events import (
    STAGES,
    DeadlineEvent,
    EndEvent,
    Event,
    FrameEvent,
    LinkEvent,
    RunEvent,
)

# Frames of which the stages are averaged.
_RECENT = 48


class Device:
    """One agent; a new run of the same name is the same device.

    Args:
        key: Identifies it here: an agent's name, or the file its events come from.
        name: What people call it.
        history: Where its seconds are counted.

    Attributes:
        row: Its row there.
        run: The first event of its run; None if that has not been seen.
        link: What it last said of its link.
        last: The frame that ended last.
        chosen: The last for which the policy chose a point for its own sake, not to try the link.
        ended: The run has ended, in order.
        heard_s: Instant of its newest event.
        deadline_s: Of the frames captured now.
        power_w: Mean power between its last two readings of a meter; None without one.
        joules_per_frame: The same per frame.
        energy_source: What measured it, or modelled it.
        disconnected_s: Instant since which it has no connection; None: it has one, or nothing is known.
    """

    def __init__(self, key: str, name: str, history: History) -> None:
        self.key, self.name = key, name
        self.row = history.add_row()
        self.run: RunEvent | None = None
        self.link: LinkEvent | None = None
        self.last: FrameEvent | None = None
        self.chosen: FrameEvent | None = None
        self.ended = False
        self.heard_s = float("-inf")
        self.deadline_s: float | None = None
        self.power_w: float | None = None
        self.joules_per_frame: float | None = None
        self.energy_source: str | None = None
        self.disconnected_s: float | None = None
        self.recent: deque[FrameEvent] = deque(maxlen=_RECENT)
        self._history = history
        self._metered: tuple[float, float] | None = None
        self._metered_frames = 0
        self._noted: tuple[int, int, int] | None = None

    def take(self, event: Event, shift_s: float) -> bool:
        """Take one event whose instants are `shift_s` before the dashboard's.

        Returns:
            Whether what stays constant in a run has changed.
        """
        at_s = event.at_s + shift_s
        # A clock that is ahead of ours must not keep a device young.
        self.heard_s = max(self.heard_s, at_s)
        if type(event) is FrameEvent:
            self._frame(event, at_s)
        elif type(event) is LinkEvent:
            self._link(event, at_s)
        elif type(event) is RunEvent:
            return self._begin(event)
        elif type(event) is DeadlineEvent:
            self.deadline_s = event.deadline_s
            return True
        elif type(event) is EndEvent:
            self.ended = True
        return False

    def stage_means_s(self) -> list[tuple[str, str, float]]:
        """Return name, place and mean seconds of every stage that the latest answered frames had."""
        answered = [frame for frame in self.recent if frame.latency_s is not None]
        means: list[tuple[str, str, float]] = []
        for stage in STAGES:
            seconds = [spent for frame in answered if (spent := stage.seconds(frame)) is not None]
            if seconds:
                means.append((stage.name, stage.where, sum(seconds) / len(answered)))
        return means

    def _begin(self, event: RunEvent) -> bool:
        before, self.run = self.run, event
        if before == event:
            return False
        self.ended = False
        self.link = self.last = self.chosen = None
        self.deadline_s = event.deadline_s
        self.power_w = self.joules_per_frame = self.energy_source = None
        self.disconnected_s = self._metered = None
        self.recent.clear()
        return True

    def _frame(self, event: FrameEvent, at_s: float) -> None:
        self.last = event
        self.ended = False
        self.recent.append(event)
        self._metered_frames += 1
        chosen = event.point is not None and not event.probe
        if chosen:
            self.chosen = event
        history = self._history
        slot = history.slot(at_s)
        if slot is None:
            return
        history.add_frame(self.row, slot, event.outcome, event.latency_s, event.payload_bytes)
        if chosen and event.point is not None:
            # No channel crosses where the device answers by itself.
            noted = (slot, event.point.width_index, event.point.channels if event.payload_bytes else 0)
            if noted != self._noted:
                self._noted = noted
                history.width[self.row, slot], history.channels[self.row, slot] = noted[1:]

    def _link(self, event: LinkEvent, at_s: float) -> None:
        self.link = event
        if event.connected:
            self.disconnected_s = None
        elif self.disconnected_s is None:
            self.disconnected_s = at_s
        self._meter(event)
        slot = self._history.slot(at_s)
        if slot is None:
            return
        if event.rate_bytes_per_s is not None:
            self._history.rate[self.row, slot] = event.rate_bytes_per_s
        if self.power_w is not None:
            self._history.power_w[self.row, slot] = self.power_w
        if self.deadline_s is not None:
            self._history.deadline_s[self.row, slot] = self.deadline_s

    def _meter(self, event: LinkEvent) -> None:
        self.energy_source = event.energy_source
        if event.energy_j is None:
            self._metered = self.power_w = self.joules_per_frame = None
            return
        if self._metered is not None and event.at_s > self._metered[0] and event.energy_j >= self._metered[1]:
            joules = event.energy_j - self._metered[1]
            self.power_w = joules / (event.at_s - self._metered[0])
            self.joules_per_frame = joules / self._metered_frames if self._metered_frames else None
        self._metered, self._metered_frames = (event.at_s, event.energy_j), 0
