"""Live equals simulated: real processes behind a shaping proxy, and the simulator with their own times.

Options:
    bundle: A bundle directory. Default: runs/cifar10-bundle of the checkout, if it is there.
    source: Frames, as `isthmus agent --source` takes them. Default: the CIFAR-10 test images of the data
        folder (ISTHMUS_DATA, or ../shared/data beside the checkout).
    traces: Uplinks, separated by blanks. Default: `outage`, two generated ones, and a recorded uplink where
        the data folder has it.
    policies: Policies, separated by blanks.
    seconds: Length of a run.
    fps: Frames per second.

For each cell (trace × policy) `isthmus serve`, `isthmus link` and `isthmus agent run` run as processes of
their own. From that run's log come the distributions of head, encoding, server, jitter and wake-ups and the
time to connect, nothing else; policy, estimator and session are the same objects. Then the cell is simulated
with eight seeds, from the same place in the trace.

- `server_share`: frames that the server answered in time; `hit_share`: that anybody did. With an early exit
  nearly every frame is answered by somebody, so the server's share is the one that could differ.
- `payload_bytes`: mean over the frames that were sent.
- `real_time_over_simulator_cpu_time`: simulated seconds per second of one core, the policy included.
- `gap_points`: |live − simulated mean| in percentage points; `bytes_ratio`: simulated over live.

`quick` runs one cell for a few seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from isthmus.cli._processes import Children
from isthmus.runtime.bundle import Bundle, load_bundle
from isthmus.runtime.control import LinkEstimator, make_policy
from isthmus.runtime.errors import InputError, NetworkError
from isthmus.runtime.events import OUTCOMES, Event, FrameEvent, read_events
from isthmus.runtime.links import load_trace
from isthmus.runtime.simulation import DeviceRun, DeviceWorld, MeasuredTimes, measured_times, run_device
from isthmus.runtime.wire import lean_request

_CHECKOUT = Path(__file__).resolve().parents[1]
_GENERATED = ("outage", "step:20kB@4s,6kB@4s,12kB@3s,2kB@3s", "constant:9kB")
_RECORDED = "traces/mahimahi/ATT-LTE-driving.up"
_POLICIES = "expected-utility fixed:3,16 robust"
_DEADLINE, _DEADLINE_S = "150ms", 0.15
_SEEDS = 8
_DELAY = "10ms"
# gRPC's and HTTP/2's part of a frame on an emulated link (a test measures it), and what the agent reckons
# with on a real one, where IP and TCP add to it.
_FRAMING_BYTES, _BELIEVED_FRAMING_BYTES = 43, 66
# The targets: points of share, and relative error of bytes.
_POINTS, _BYTES = 3.0, 0.05


@dataclass(frozen=True)
class _Figures:
    """What both sides are compared by."""

    server_share: float
    hit_share: float
    payload_bytes: float
    latency_p50_s: float
    outcomes: dict[str, float]


def run(
    *,
    quick: bool = False,
    bundle: str | None = None,
    source: str | None = None,
    traces: str | None = None,
    policies: str = _POLICIES,
    seconds: float = 30.0,
    fps: float = 30.0,
) -> dict[str, Any]:
    """Return the figures of every cell, live and simulated, and how far they lie apart.

    Raises:
        InputError: If there is neither a bundle nor a source to use.
        NetworkError: If a process ends before its time.
    """
    loaded = load_bundle(_default_bundle() if bundle is None else bundle)
    images = _default_source() if source is None else source
    links = traces.split() if traces else [*_GENERATED, *_recorded()]
    chosen = policies.split()
    if quick:
        links, chosen, seconds = links[:1], chosen[:1], min(seconds, 4.0)
    figures: dict[str, Any] = {"bundle": loaded.manifest.name, "seconds": seconds, "fps": fps}
    figures["deadline_s"] = _DEADLINE_S
    cells: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for link in links:
        for policy in chosen:
            name = f"{Path(link).name} | {policy}"
            load = os.getloadavg()[0]
            events = _live(loaded, images, link, policy, seconds, fps)
            live = _figures_of([event for event in events if isinstance(event, FrameEvent)])
            began_s = time.process_time()
            runs = _simulated(loaded, events, link, policy, seconds, fps)
            took_s = time.process_time() - began_s
            cells[name], ratios[name] = _compared(live, runs)
            ratios[name]["real_time_over_simulator_cpu_time"] = seconds * len(runs) / took_s
            cells[name]["load_average_before"] = load
    figures["cells"] = cells
    ratios["worst"] = {
        "server_share_gap_points": max(cell["server_share_gap_points"] for cell in ratios.values()),
        "hit_share_gap_points": max(cell["hit_share_gap_points"] for cell in ratios.values()),
        "bytes_error": max(abs(cell["bytes_ratio"] - 1.0) for cell in ratios.values()),
    }
    within = [
        name
        for name, cell in ratios.items()
        if name != "worst"
        and max(cell["server_share_gap_points"], cell["hit_share_gap_points"]) <= _POINTS
        and abs(cell["bytes_ratio"] - 1.0) <= _BYTES
    ]
    figures["cells_within_target"] = f"{len(within)} of {len(cells)}"
    return {"figures": figures, "ratios": ratios}


def _live(bundle: Bundle, source: str, link: str, policy: str, seconds: float, fps: float) -> list[Event]:
    """Run the three processes and return what agent and link logged."""
    with tempfile.TemporaryDirectory() as folder, Children() as children:
        agent_log, link_log = Path(folder) / "events.jsonl", Path(folder) / "link.jsonl"
        server = children.start_service(["serve", str(bundle.root), "--port", "0", "--json"])
        shape = ["--trace", link, "--delay", _DELAY, "--events", str(link_log), "--json"]
        proxy = children.start_service(["link", "--target", f"127.0.0.1:{server['port']}", *shape])
        flags = ["--source", source, "--fps", str(fps), "--deadline", _DEADLINE, "--policy", policy]
        flags += ["--duration", f"{seconds}s", "--server", f"127.0.0.1:{proxy['port']}"]
        flags += ["--events", str(agent_log), "--quiet", "--json"]
        ended = subprocess.run(
            [sys.executable, "-m", "isthmus", "agent", "run", str(bundle.root), *flags],
            capture_output=True,
            timeout=seconds + 60,
        )
        if ended.returncode != 0:
            raise NetworkError(f"isthmus agent run: {ended.stderr.decode(errors='replace').strip()[-300:]}")
        json.loads(ended.stdout)
        return [*read_events(agent_log), *read_events(link_log)]


def _simulated(
    bundle: Bundle, events: list[Event], link: str, policy: str, seconds: float, fps: float
) -> list[DeviceRun]:
    message = lean_request(model="", frame_id="100000", payload=b"", budget_us=1 << 20)
    overhead_bytes = message.ByteSize() + _FRAMING_BYTES
    believed_bytes = message.ByteSize() + _BELIEVED_FRAMING_BYTES
    times: MeasuredTimes = measured_times(events, name=link, overhead_bytes=overhead_bytes)
    world = DeviceWorld(
        trace=load_trace(link),
        points=bundle.points,
        fps=fps,
        deadline_s=_DEADLINE_S,
        duration_s=seconds,
        start_s=max(0.0, times.first_s - times.trace_start_s),
        overhead_bytes=overhead_bytes,
        delay_s=times.delay_s,
        connect_s=times.connect_s,
        head_s=times.head_s,
        encode_s=times.encode_s,
        server_s=times.server_s,
        server_queue_s=times.server_queue_s,
        jitter_s=times.jitter_s,
        wake_s=times.wake_s,
    )
    worlds = [replace(world, seed=seed) for seed in range(_SEEDS)]
    return [
        run_device(
            one,
            make_policy(policy, bundle.points),
            estimator=LinkEstimator(overhead_bytes=believed_bytes),
        )
        for one in worlds
    ]


def _figures_of(frames: list[FrameEvent]) -> _Figures:
    counts = {kind: sum(event.outcome == kind for event in frames) / len(frames) for kind in OUTCOMES}
    sent = [event.payload_bytes for event in frames if event.payload_bytes]
    latencies = sorted(event.latency_s for event in frames if event.latency_s is not None)
    return _Figures(
        server_share=counts["remote"],
        hit_share=counts["remote"] + counts["exit"] + counts["local"],
        payload_bytes=fmean(sent) if sent else 0.0,
        latency_p50_s=latencies[len(latencies) // 2] if latencies else 0.0,
        outcomes={str(kind): share for kind, share in counts.items()},
    )


def _compared(live: _Figures, runs: list[DeviceRun]) -> tuple[dict[str, Any], dict[str, Any]]:
    made = [_figures_of(run.frames) for run in runs]

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": sorted(values)[len(values) // 2], "min": min(values), "max": max(values)}

    server = [figures.server_share for figures in made]
    hits = [figures.hit_share for figures in made]
    nbytes = [figures.payload_bytes for figures in made]
    cell = {
        "live": {
            "server_share": live.server_share,
            "hit_share": live.hit_share,
            "payload_bytes": live.payload_bytes,
            "latency_p50_s": live.latency_p50_s,
            "outcomes": live.outcomes,
        },
        "simulated": {
            "server_share": spread(server),
            "hit_share": spread(hits),
            "payload_bytes": spread(nbytes),
            "latency_p50_s": spread([figures.latency_p50_s for figures in made]),
            "outcomes": {kind: fmean(figures.outcomes[kind] for figures in made) for kind in live.outcomes},
        },
    }
    return cell, {
        "server_share_gap_points": 100 * abs(fmean(server) - live.server_share),
        "hit_share_gap_points": 100 * abs(fmean(hits) - live.hit_share),
        "bytes_ratio": fmean(nbytes) / live.payload_bytes if live.payload_bytes else 1.0,
    }


def _default_bundle() -> Path:
    path = _CHECKOUT / "runs" / "cifar10-bundle"
    if not path.is_dir():
        raise InputError(f"{path}: not there; give --option bundle=DIR --option source=SPEC")
    return path


def _data() -> Path:
    return Path(os.environ.get("ISTHMUS_DATA", _CHECKOUT.parent / "shared" / "data"))


def _default_source() -> str:
    file = _data() / "cifar10" / "test.npz"
    if not file.is_file():
        raise InputError(f"{file}: not there; give --option source=SPEC, or set ISTHMUS_DATA")
    return f"npz:{file}"


def _recorded() -> list[str]:
    file = _data() / _RECORDED
    return [str(file)] if file.is_file() else []
