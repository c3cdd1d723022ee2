"""The two contenders of `profiler`: an agent that nobody watches, and one that is profiled."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Moment
from isthmus.device_agents.profiling.bundle_run import watching
from isthmus.device_agents.profiling.linked_target import DEADLINE_S, linked_target
from isthmus.device_agents.profiling.measuring import Extent, Gathering
from isthmus.device_agents.profiling.scenarios import Load, drive
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.bundle import Bundle, OperatingPoint
from isthmus.runtime.events import Event, FrameEvent
from isthmus.runtime.golden import golden_images

WARM_UP_S = 0.5
_OFFLINE = Load(scenario="Offline")


async def bare(
    bundle: Bundle, bank: WidthBank, point: OperatingPoint, address: str, seconds: float
) -> tuple[float, float]:
    """Return frames per second, and processor seconds per frame, of an agent that nobody watches."""
    policy = f"fixed:{point.width_index},{point.channels}"
    config = AgentConfig(
        source="pushed",
        server=address,
        policy=policy,
        deadline_s=DEADLINE_S,
        queue="fifo:1024",
        fps=1000.0,
        thermal="off",
    )
    target = _BareTarget(golden_images(bundle))
    agent = AgentRun(config, bundle, bank=bank, source=None, log=_Ends(target), observer=_Nobody())
    target.agent = agent
    task = asyncio.ensure_future(agent.run())
    await asyncio.wait_for(agent.was_connected.wait(), 30)
    counting = _Counting(seconds)
    await drive(_OFFLINE, target, counting)
    agent.stop()
    await task
    return counting.figures()


async def profiled(
    bundle: Bundle, bank: WidthBank, point: OperatingPoint, address: str, seconds: float
) -> tuple[float, float]:
    """Return the same of an agent that is profiled; what its figures are made of afterwards is not in it."""
    cpu_s: list[float] = []
    config, images = AgentConfig(source="profiled", server=address), golden_images(bundle)
    extent = Extent(warm_up_s=WARM_UP_S, least_s=seconds, most_s=4 * seconds)
    with watching(None) as (watch, _):

        def begin() -> None:
            watch.look()
            cpu_s.append(time.process_time())

        gathered = Gathering(extent, begin=begin)
        async with linked_target(way_to(bundle, point), config, bundle, bank, images) as target:
            await drive(_OFFLINE, target, gathered)
            cpu_s.append(time.process_time())
    frames = sum(sample.event.at_s >= gathered.began_s for sample in gathered.all_samples)
    return gathered.throughput_per_s, (cpu_s[1] - cpu_s[0]) / frames


def way_to(bundle: Bundle, point: OperatingPoint) -> Way:
    """Return the way of a frame at `point` to the server."""
    width = bundle.manifest.widths[point.width_index]
    return Way(kind="server", width_index=point.width_index, width=width, channels=point.channels)


class _BareTarget:
    """Pushes images into an agent, and keeps nothing of a frame but that it has ended."""

    def __init__(self, images: Any) -> None:
        self.agent: Any = None
        self._images = images
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    def ask(self, due_s: float) -> asyncio.Future[Any]:
        frame = self.agent.captured
        self._waiting[frame] = future = asyncio.get_running_loop().create_future()
        self.agent.push(self._images[frame % len(self._images)])
        return future

    def ended(self, frame: int) -> None:
        self._waiting.pop(frame).set_result(None)


class _Ends:
    """Stands where an event log would, writes nothing, and tells a target which frames have ended."""

    lost = 0
    failed = None

    def __init__(self, target: _BareTarget) -> None:
        self._target = target

    def write(self, event: Event) -> None:
        if isinstance(event, FrameEvent):
            self._target.ended(event.frame)


class _Counting:
    """Counts the frames of a stretch after a warm-up; see `Taker`."""

    def __init__(self, seconds: float) -> None:
        self._begin_s = time.monotonic() + WARM_UP_S
        self._end_s = self._begin_s + seconds
        self._frames, self._began_s, self._ended_s = 0, 0.0, 0.0
        self._cpu_s = [0.0, 0.0]

    @property
    def enough(self) -> bool:
        return time.monotonic() >= self._end_s

    def take(self, query: list[Any]) -> None:
        now_s = time.monotonic()
        if now_s < self._begin_s:
            return
        if not self._began_s:
            self._began_s, self._cpu_s[0] = now_s, time.process_time()
            return
        self._frames += 1
        self._ended_s, self._cpu_s[1] = now_s, time.process_time()

    def turn_away(self) -> None:
        raise AssertionError("nobody is turned away offline")

    def figures(self) -> tuple[float, float]:
        return self._frames / (self._ended_s - self._began_s), (
            self._cpu_s[1] - self._cpu_s[0]
        ) / self._frames


class _Nobody:
    """Watches without a word."""

    def note(self, text: str) -> None:
        pass

    def moment(self, moment: Moment) -> None:
        pass
