"""A million devices on the simulator: how long that takes, how it grows, and whether it is right.

Options:
    bundle: The bundle that the live part serves. Default: runs/cifar10-bundle of the checkout, if it is
        there; without a bundle the live part is left out.
    jobs: Processes of the large runs.
    ten: Also simulate a million devices at 10 frames per second (`yes`), 600 million frames.
    live_seconds: Length of each live run.

- `growth`: 10^3 to 10^6 devices × 60 s, one frame per second each, a server per 2,000 frames per second, two
  kinds of links, two regions. Times are of whole runs, processes included; `peak_bytes` is the resident
  memory of the largest process. The code is compiled once before.
- `exact`: the same fleets event by event (`_fleet_exact`: the server's own queue, one event per instant),
  small ones, means over seeds. Which device has which link is drawn too, so both sides scatter.
- `live`: streams in two processes of their own against `isthmus serve` on this machine, at three loads, and
  the same fleets simulated with the times that the live answers tell: what a batch takes by its size, what
  lies between two, how long a frame is on its way. How frames meet, queue and form batches is predicted.

`quick` takes fewer devices, seeds and seconds.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from _fleet_exact import ExactRun, run_exact
from _fleet_live import Load, live_figures, run_live, simulate

from isthmus.cli.eval import server_address
from isthmus.runtime.bundle import load_bundle
from isthmus.runtime.simulation.fleet import (
    Arrivals,
    FleetRun,
    FleetWorld,
    LinkClass,
    Region,
    Service,
    run_fleet,
)
from isthmus.runtime.simulation.fleet.tail import compiled

_CHECKOUT = Path(__file__).resolve().parents[1]
_LINKS = (
    LinkClass.of_rate(
        "lte", share=0.6, rate_bytes_per_s=250_000, payload_bytes=512, compute_s=0.01, sigma=0.6
    ),
    LinkClass.of_rate(
        "wifi", share=0.4, rate_bytes_per_s=2.5e6, payload_bytes=512, compute_s=0.01, sigma=0.4
    ),
)
_REGIONS = (Region(name="near", share=0.7, rtt_s=0.02), Region(name="far", share=0.3, rtt_s=0.08))
_PER_SERVER = 2000.0
# Streams at 10 frames per second, and the deadline of the live runs.
_STREAMS, _LIVE_FPS, _LIVE_DEADLINE_S = (12, 28, 44), 10.0, 0.01
_MAX_BATCH = 32


def run(
    *,
    quick: bool = False,
    bundle: str | None = None,
    jobs: int = 2,
    ten: str = "yes",
    live_seconds: float = 15.0,
) -> dict[str, Any]:
    """Return the figures of growth, agreement with the exact simulation, and with a real server."""
    figures: dict[str, Any] = {"compiled": compiled() is not None, "jobs": jobs}
    ratios: dict[str, Any] = {}
    run_fleet(_fleet(200, 1.0))
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    figures["growth"] = {f"{devices}_devices": _timed(_fleet(devices, 1.0), jobs) for devices in sizes}
    if ten == "yes" and not quick:
        figures["growth"]["1000000_devices_10_fps"] = _timed(_fleet(1_000_000, 10.0), jobs)
    figures["exact"], ratios["exact"] = _against_exact(seeds=2 if quick else 8)
    served = bundle or _default_bundle()
    if served is not None:
        seconds = min(live_seconds, 3.0) if quick else live_seconds
        streams = _STREAMS[1:2] if quick else _STREAMS
        figures["live"], ratios["live"] = _against_live(served, streams, seconds)
    return {"figures": figures, "ratios": ratios}


def _fleet(devices: int, fps: float, **changes: Any) -> FleetWorld:
    facts: dict[str, Any] = {
        "devices": devices,
        "servers": max(1, round(devices * fps / _PER_SERVER)),
        "fps": fps,
        "deadline_s": 0.15,
        "service": Service(frame_s=0.0003, batch_s=0.004),
        "links": _LINKS,
        "regions": _REGIONS,
    }
    return FleetWorld(**{**facts, **changes})


def _timed(world: FleetWorld, jobs: int) -> dict[str, Any]:
    began = time.perf_counter()
    done = run_fleet(world, jobs=jobs)
    took_s = time.perf_counter() - began
    assert done.captured == done.in_time + done.late + done.expired + done.busy + done.quiet + done.own
    peak_kb = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "devices": world.devices,
        "fps": world.fps,
        "simulated_s": world.duration_s,
        "servers": world.servers,
        "frames": done.captured,
        "run_s": took_s,
        "ns_per_frame": took_s * 1e9 / done.captured,
        "peak_bytes": peak_kb * (1024 if sys.platform == "linux" else 1),
        "hit_share": done.hit_share,
        "load_average": os.getloadavg()[0],
    }


def _against_exact(seeds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    slow = Service(frame_s=0.0004, batch_s=0.02, max_batch=16, queue_frames=32)
    worlds = {
        "light": _fleet(150, 10.0, duration_s=10.0, servers=1),
        "regular": _fleet(2000, 1.0, duration_s=10.0, servers=1),
        "poisson": _fleet(2200, 1.0, duration_s=10.0, servers=1, arrivals=Arrivals(pattern="poisson")),
        "three_servers": _fleet(900, 5.0, duration_s=10.0, servers=3),
        "overloaded": _fleet(900, 1.0, duration_s=10.0, servers=1, service=slow),
    }
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for name, world in worlds.items():
        fast = [run_fleet(replace(world, seed=seed)) for seed in range(seeds)]
        exact = [run_exact(world, seed=seed) for seed in range(seeds)]
        figures[name], ratios[name] = {}, {}
        for figure, read in _READINGS.items():
            ours, theirs = [read(one) for one in fast], [read(one) for one in exact]
            figures[name][figure] = {"fleet": _spread(ours), "exact": _spread(theirs)}
            ratios[name][f"{figure}_fleet_over_exact"] = statistics.fmean(ours) / statistics.fmean(theirs)
    return figures, ratios


_READINGS: dict[str, Callable[[FleetRun | ExactRun], float]] = {
    "hit_share": lambda one: one.hit_share,
    "mean_batch": lambda one: one.mean_batch,
    "latency_p50_s": lambda one: one.latency_s(0.5) or 0.0,
    "latency_p95_s": lambda one: one.latency_s(0.95) or 0.0,
    "computed_s": lambda one: one.computed_s,
}


def _against_live(
    bundle: str | Path, streams: tuple[int, ...], seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    loaded = load_bundle(bundle)
    figures: dict[str, Any] = {"bundle": loaded.manifest.name, "deadline_s": _LIVE_DEADLINE_S}
    ratios: dict[str, Any] = {}
    with server_address(None, loaded.root) as server:
        for count in streams:
            load = Load(streams=count, fps=_LIVE_FPS, seconds=seconds, deadline_s=_LIVE_DEADLINE_S)
            busy = os.getloadavg()[0]
            rows = run_live(loaded, server, load, seed=count)
            live = asdict(live_figures(rows, load))
            runs = [simulate(rows, load, max_batch=_MAX_BATCH, seed=seed) for seed in range(5)]
            simulated = {name: statistics.fmean(asdict(one)[name] for one, _ in runs) for name in live}
            service = runs[0][1]
            figures[f"{count}_streams"] = {
                "live": live,
                "simulated": simulated,
                "tail_frame_s": service.frame_s,
                "tail_batch_s": service.batch_s,
                "handling_s": service.handling_s,
                "load_average_before": busy,
            }
            ratios[f"{count}_streams"] = {
                f"{name}_simulated_over_live": simulated[name] / live[name] for name in live
            }
    ratios["worst_error"] = max(abs(value - 1) for cell in ratios.values() for value in cell.values())
    return figures, ratios


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _default_bundle() -> Path | None:
    path = _CHECKOUT / "runs" / "cifar10-bundle"
    return path if path.is_dir() else None
