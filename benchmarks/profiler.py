"""What the profiler costs, what logging a frame costs, and whether a frame's stages add up to its latency.

Options:
    bundle: The bundle's directory. Needed.
    seconds: How long each stretch lasts.
    rounds: How often each contender is run.

A real `isthmus serve` process answers on loopback, and a second one whose clock is a day ahead and gains
100 µs a second. In every round an agent in this process answers as many frames as it can (16 unanswered at a
time, the widest point), once bare, once watched by the profiler as `isthmus profile --scenario Offline` does,
in turns: frames per second, and processor time of this process per frame. Then frames go one after the other,
to either server, and every frame's stages are added up.

On a machine where others are at work those two scatter by more than the profiler costs. `own_work` does not:
it is the processor time of all that the profiler itself does for a frame (writing its line to nowhere,
keeping its end) and of looking at the device, alone in a loop; `own_work_over_target` sets their share of a
bare frame's processor time against the target.

`log_frame_s` is what `EventLog.write` takes for one frame that a server answered, into a real file: the
median and the 99th percentile of single calls.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from isthmus.device_agents.agent import AgentRun
from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.clock import run_exactly
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.ledger import Moment
from isthmus.device_agents.profiling.bundle_run import watching
from isthmus.device_agents.profiling.clock_offset import estimate_offset
from isthmus.device_agents.profiling.conditions import PERIOD_S, Watch
from isthmus.device_agents.profiling.linked_target import DEADLINE_S, FrameLog, LinkedTarget, linked_target
from isthmus.device_agents.profiling.measuring import Extent, Gathering, measure
from isthmus.device_agents.profiling.scenarios import Load, drive
from isthmus.device_agents.profiling.ways import Way
from isthmus.runtime.bundle import Bundle, OperatingPoint, load_bundle
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.events import Event, EventLog, FrameEvent
from isthmus.runtime.golden import golden_images

# What was asked for: throughput lost, seconds of logging a frame, gap between stages and latency.
TARGET_LOST, TARGET_LOG_S, TARGET_GAP = 0.02, 20e-6, 0.03
_AHEAD_S, _FASTER = 86_400.25, 100e-6
_WARM_UP_S = 0.5
_LOG_CALLS = 20_000
_OFFLINE = Load(scenario="Offline")


def run(
    *, quick: bool = False, bundle: str | None = None, seconds: float = 3.0, rounds: int = 10
) -> dict[str, Any]:
    """Return throughput and processor time bare and profiled, logging, and the stages' sums.

    Raises:
        InputError: If an option is missing.
    """
    if bundle is None:
        raise InputError("profiler needs --option bundle=DIR")
    if quick:
        seconds, rounds = 0.3, 2
    loaded = load_bundle(bundle)
    bank = WidthBank(loaded, threads=1, provider="cpu")
    point = loaded.manifest.points[-1]
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "profiled": []}
    with _server(loaded, shifted=False) as address, _server(loaded, shifted=True) as shifted:
        for number in range(rounds):
            order = ("bare", "profiled") if number % 2 else ("profiled", "bare")
            for name in order:
                stretch = _bare if name == "bare" else _profiled
                taken[name].append(run_exactly(stretch(loaded, bank, point, address, seconds)))
        sums = {
            name: run_exactly(_sums(loaded, bank, point, where, seconds))
            for name, where in (("same_clock", address), ("shifted_clock", shifted))
        }
    calls = _LOG_CALLS // (20 if quick else 1)
    return _record(loaded, seconds, rounds, taken, sums, _log_times(calls), _own_work(calls))


def _record(
    bundle: Bundle,
    seconds: float,
    rounds: int,
    taken: dict[str, list[tuple[float, float]]],
    sums: dict[str, dict[str, Any]],
    log_s: dict[str, float],
    own: dict[str, float],
) -> dict[str, Any]:
    ratios = {
        name: _spread(
            [
                profiled[index] / bare[index]
                for bare, profiled in zip(taken["bare"], taken["profiled"], strict=True)
            ]
        )
        for index, name in enumerate(("frames_per_s", "cpu_s_per_frame"))
    }
    lost = 1 - ratios["frames_per_s"]["median"]
    bare_s = median([cpu_s for _, cpu_s in taken["bare"]])
    own_share = own["frame_cpu_s"] / bare_s + own["looking_share"]
    gap = max(abs(one["stages_over_latency"] - 1) for one in sums.values())
    return {
        "figures": {
            "bundle": bundle.manifest.name,
            "seconds": seconds,
            "rounds": rounds,
            "frames_per_s": {name: _spread([one[0] for one in pairs]) for name, pairs in taken.items()},
            "cpu_s_per_frame": {name: _spread([one[1] for one in pairs]) for name, pairs in taken.items()},
            "log_frame_s": log_s,
            "own_work": own,
            "breakdown": sums,
            "targets": {"throughput_lost": TARGET_LOST, "log_frame_s": TARGET_LOG_S, "gap": TARGET_GAP},
        },
        "ratios": {
            "profiled_over_bare": ratios,
            "throughput_lost_over_target": lost / TARGET_LOST,
            "own_work_over_target": own_share / TARGET_LOST,
            "log_frame_over_target": log_s["median"] / TARGET_LOG_S,
            "gap_over_target": gap / TARGET_GAP,
        },
    }


async def _bare(
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


async def _profiled(
    bundle: Bundle, bank: WidthBank, point: OperatingPoint, address: str, seconds: float
) -> tuple[float, float]:
    """Return the same of an agent that is profiled; what its figures are made of afterwards is not in it."""
    cpu_s: list[float] = []
    config, images = AgentConfig(source="profiled", server=address), golden_images(bundle)
    extent = Extent(warm_up_s=_WARM_UP_S, least_s=seconds, most_s=4 * seconds)
    with watching(None) as (watch, _):

        def begin() -> None:
            watch.look()
            cpu_s.append(time.process_time())

        gathered = Gathering(extent, begin=begin)
        async with linked_target(_way(bundle, point), config, bundle, bank, images) as target:
            await drive(_OFFLINE, target, gathered)
            cpu_s.append(time.process_time())
    frames = sum(sample.event.at_s >= gathered.began_s for sample in gathered.all_samples)
    return gathered.throughput_per_s, (cpu_s[1] - cpu_s[0]) / frames


async def _sums(
    bundle: Bundle, bank: WidthBank, point: OperatingPoint, address: str, seconds: float
) -> dict[str, Any]:
    """Return how far the stages of frames, one after the other, fill their latency; the server's clock."""
    config, images = AgentConfig(source="profiled", server=address), golden_images(bundle)
    extent = Extent(warm_up_s=_WARM_UP_S, least_s=seconds, most_s=10 * seconds)
    way, load = _way(bundle, point), Load(scenario="SingleStream")
    with watching(None) as (watch, _):
        async with linked_target(way, config, bundle, bank, images) as target:
            measured = await measure(way, load, target, extent=extent, watch=watch)
    frames = [sample for sample in measured.samples if sample.as_asked]
    shares = [sum(sample.stages().values()) / sample.latency_s for sample in frames]
    offset = estimate_offset([sample.event for sample in frames])
    return {
        "frames": len(frames),
        "latency_s": measured.figures.latency.p50_s,
        "stages_over_latency": median(shares),
        "stages_over_latency_p1": float(np.percentile(shares, 1)),
        "stages_over_latency_p99": float(np.percentile(shares, 99)),
        "clock_offset_s": offset.surest.offset_s,
        "clock_uncertainty_s": offset.surest.delay_s / 2,
    }


def _way(bundle: Bundle, point: OperatingPoint) -> Way:
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
        self._begin_s = time.monotonic() + _WARM_UP_S
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


def _own_work(calls: int) -> dict[str, float]:
    """Return processor seconds of what the profiler itself does: for a frame, and to look at the device."""
    gathered = Gathering(Extent(warm_up_s=0.0, least_s=1e9, most_s=1e9), begin=lambda: None)
    target = LinkedTarget(SimpleNamespace(), np.zeros((1,)))
    log, frame = FrameLog(target.ended), _a_frame()
    samples: list[Any] = []

    def one_frame() -> None:
        target._waiting[frame.frame] = (_Once(samples), 0.0)
        log.write(frame)
        gathered.take([samples.pop()])

    watch = Watch()
    figures = {"frame_cpu_s": _cpu_s(one_frame, calls), "look_cpu_s": _cpu_s(watch.look, calls // 20)}
    log.close()
    figures["looking_share"] = figures["look_cpu_s"] / PERIOD_S
    return figures


class _Once:
    """A future as `LinkedTarget` uses one, without an event loop."""

    def __init__(self, taken: list[Any]) -> None:
        self._taken = taken

    def done(self) -> bool:
        return False

    def set_result(self, sample: Any) -> None:
        self._taken.append(sample)


def _cpu_s(call: Any, calls: int) -> float:
    """Return the median processor seconds of a call, over batches."""
    batches = []
    for _ in range(10):
        began_s = time.thread_time()
        for _ in range(max(1, calls // 10)):
            call()
        batches.append((time.thread_time() - began_s) / max(1, calls // 10))
    return median(batches)


def _log_times(calls: int) -> dict[str, float]:
    """Return seconds of writing one frame's line, of single calls into a file in the temporary folder."""
    frame, taken = _a_frame(), np.empty(calls)
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(Path(folder) / "events.jsonl")
        for number in range(calls):
            began_ns = time.perf_counter_ns()
            log.write(frame)
            taken[number] = time.perf_counter_ns() - began_ns
        log.close()
    middle, last = np.percentile(taken / 1e9, (50, 99))
    return {"median": float(middle), "p99": float(last), "calls": calls}


def _a_frame() -> FrameEvent:
    """Return the end of a frame that a server answered, with all that is known of one."""
    return FrameEvent(
        at_s=36603.556545724,
        frame=123_456,
        captured_s=36603.543099449,
        outcome="remote",
        point=OperatingPoint(width_index=3, channels=16),
        payload_bytes=302,
        answer=4,
        truth=4,
        latency_s=0.013446274999296293,
        wait_s=0.0004150589957134798,
        handover_s=0.00010543800453888252,
        head_s=0.002685967999,
        encode_s=0.000240307799772,
        send_s=0.000101234567,
        remote_s=0.0098765432101,
        server_received_s=123603.54978361,
        server_decode_s=0.000123,
        server_queue_s=0.000456,
        server_compute_s=0.003456,
        server_answer_s=0.000056,
        reason="0.93 expected, 302 B in 8 ms",
    )


@contextmanager
def _server(bundle: Bundle, *, shifted: bool) -> Iterator[str]:
    """Yield the address of a server process, its clock moved if asked to."""
    if shifted:
        script = Path(__file__).with_name("_shifted_clock.py")
        command = [sys.executable, str(script), str(_AHEAD_S), str(_FASTER)]
    else:
        command = [sys.executable, "-m", "isthmus"]
    child = subprocess.Popen(
        [*command, "serve", str(bundle.root), "--port", "0", "--threads", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise NetworkError(
                f"isthmus serve {bundle.root} did not become ready; run it by itself to see why"
            )
        yield f"127.0.0.1:{json.loads(line)['port']}"
    finally:
        child.terminate()
        child.communicate(timeout=30)


def _spread(values: list[float]) -> dict[str, float]:
    first, middle, third = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "first_quartile": float(first), "third_quartile": float(third)}
