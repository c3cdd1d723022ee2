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

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _profiler.alone import log_times, own_work
from _profiler.contenders import WARM_UP_S, bare, profiled, way_to

from isthmus.device_agents.bank import WidthBank
from isthmus.device_agents.clock import run_exactly
from isthmus.device_agents.config import AgentConfig
from isthmus.device_agents.profiling.bundle_run import watching
from isthmus.device_agents.profiling.clock_offset import estimate_offset
from isthmus.device_agents.profiling.linked_target import linked_target
from isthmus.device_agents.profiling.measuring import Extent, measure
from isthmus.device_agents.profiling.scenarios import Load
from isthmus.runtime.bundle import Bundle, OperatingPoint, load_bundle
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.golden import golden_images

# What was asked for: throughput lost, seconds of logging a frame, gap between stages and latency.
TARGET_LOST, TARGET_LOG_S, TARGET_GAP = 0.02, 20e-6, 0.03
_AHEAD_S, _FASTER = 86_400.25, 100e-6
_LOG_CALLS = 20_000


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
                stretch = bare if name == "bare" else profiled
                taken[name].append(run_exactly(stretch(loaded, bank, point, address, seconds)))
        sums = {
            name: run_exactly(_sums(loaded, bank, point, where, seconds))
            for name, where in (("same_clock", address), ("shifted_clock", shifted))
        }
    calls = _LOG_CALLS // (20 if quick else 1)
    return _record(loaded, seconds, rounds, taken, sums, log_times(calls), own_work(calls))


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
                watched[index] / unwatched[index]
                for unwatched, watched in zip(taken["bare"], taken["profiled"], strict=True)
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


async def _sums(
    bundle: Bundle, bank: WidthBank, point: OperatingPoint, address: str, seconds: float
) -> dict[str, Any]:
    """Return how far the stages of frames, one after the other, fill their latency; the server's clock."""
    config, images = AgentConfig(source="profiled", server=address), golden_images(bundle)
    extent = Extent(warm_up_s=WARM_UP_S, least_s=seconds, most_s=10 * seconds)
    way, load = way_to(bundle, point), Load(scenario="SingleStream")
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
