"""Once a second: the device's temperature, and the status file.

Both may take long (a sensor behind a slow bus, a disk that stands still), so both happen on another thread
and no frame waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from isthmus.device_agents.operation.status import AgentStatus, write_status
from isthmus.device_agents.operation.thermal import ThermalMonitor, ThermalReading

MakeStatus = Callable[[ThermalReading], AgentStatus]


class Vitals:
    """Reads the sensors and writes the status file of one run.

    Args:
        path: The status file; None: there is none.
        monitor: Reads the sensors; None: they are not read.
        note: Takes one line about something that changed.

    Attributes:
        reading: What the sensors said last.
    """

    def __init__(
        self, path: Path | None, monitor: ThermalMonitor | None, *, note: Callable[[str], None]
    ) -> None:
        self.reading = ThermalReading()
        self._path = path
        self._monitor = monitor
        self._note = note
        self._failed = False

    async def beat(self, make: MakeStatus) -> None:
        """Read the sensors, and write the status that `make` returns for the reading."""
        if self._monitor is not None:
            before, self.reading = self.reading, await asyncio.to_thread(self._monitor.read)
            self._say(before)
        if self._path is not None:
            await asyncio.to_thread(self.write, make(self.reading))

    def write(self, status: AgentStatus) -> None:
        """Replace the status file; that it cannot be written is said once."""
        if self._path is None:
            return
        try:
            write_status(self._path, status)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._note(f"status file {self._path}: {error.strerror or error}; the run goes on without it")

    def _say(self, before: ThermalReading) -> None:
        if self.reading.throttled and not before.throttled:
            self._note(f"the device is slowed down: {', '.join(self.reading.causes)}")
        elif before.throttled and self.reading.throttled is False:
            self._note("the device is at full speed again")
