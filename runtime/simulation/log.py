"""Write a simulated run as an event log, so that reports read it like a real one; it says what it is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from isthmus.runtime.control import Policy
from isthmus.runtime.events import EndEvent, EventLog, FrameEvent, LinkEvent, RunEvent, ShapeEvent
from isthmus.runtime.simulation.account import DeviceRun
from isthmus.runtime.simulation.device import run_device
from isthmus.runtime.simulation.world import DeviceWorld

# As the emulated link logs its rate.
_SHAPE_EVERY_S = 0.1
LABELS = ("wrong", "right")


def run_logged(
    world: DeviceWorld,
    policy: Policy,
    path: str | os.PathLike[str],
    *,
    bundle: str = "simulated",
    bundle_digest: str = "",
    widths: Sequence[float] = (),
    version: str = "",
) -> DeviceRun:
    """Run `policy` in `world` as `run_device` does, and write the run's event log to `path`.

    Its source and server say that it is simulated; classes are `wrong` and `right`, drawn from the table.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    log = EventLog(path)
    log.write(
        RunEvent(
            at_s=world.start_s,
            unix_s=time.time(),
            bundle=bundle,
            bundle_digest=bundle_digest,
            source=f"simulated (seed {world.seed})",
            policy=policy.name,
            server=f"simulated, over {world.trace.name}",
            deadline_s=world.deadline_s,
            fps=world.fps,
            widths=tuple(widths),
            labels=LABELS,
            teacher_utility=world.points.teacher_utility,
            isthmus_version=version,
            idle_w=None if world.energy is None else world.energy.idle_w,
            radio=None if world.energy is None else world.energy.radio,
        )
    )
    _write_shape(log, world)

    def sink(event: FrameEvent | LinkEvent | EndEvent) -> None:
        log.write(event)

    try:
        return run_device(world, policy, sink=sink)
    finally:
        log.close()


def _write_shape(log: EventLog, world: DeviceWorld) -> None:
    at_s, end_s, logged = world.start_s, world.start_s + world.duration_s, None
    while at_s < end_s:
        until_s = min(end_s, max(world.trace.next_change(at_s), at_s + _SHAPE_EVERY_S))
        rate = world.trace.bytes_between(at_s, until_s) / (until_s - at_s)
        if rate != logged:
            log.write(ShapeEvent(at_s=at_s, rate_bytes_per_s=rate))
            logged = rate
        at_s = until_s
