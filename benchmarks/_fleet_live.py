"""A small fleet for real: `isthmus serve`, streams in processes of their own, and the same fleet simulated.

From the live run's own answers come the tail's times and those of the way there and back; how frames meet,
wait, form batches and miss their deadlines is the simulation's.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from _fleet_streams import Orders
from numpy.typing import NDArray

from isthmus.runtime.bundle import GOLDEN, Bundle
from isthmus.runtime.errors import NetworkError
from isthmus.runtime.simulation.fleet import (
    Arrivals,
    FleetRun,
    FleetWorld,
    LinkClass,
    Region,
    Service,
    run_fleet,
)

_STREAMS_FILE = Path(__file__).with_name("_fleet_streams.py")
# Time for the processes to import and to connect.
_LEAD_S = 6.0
_PROCESSES = 2
_CAPTURED, _SENT, _RECEIVED, _BEGUN, _COMPUTED, _ANSWERED, _OUTCOME = range(7)
# Frames of one batch begin at the same instant, told to the microsecond.
_SAME_S = 20e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What both sides are compared by."""

    throughput_per_s: float
    hit_share: float
    mean_batch: float
    latency_p50_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many streams send how often, for how long, with which deadline."""

    streams: int
    fps: float
    seconds: float
    deadline_s: float


def run_live(bundle: Bundle, server: str, load: Load, *, seed: int) -> NDArray[np.float64]:
    """Run `load` against the server at `server` and return its frames as rows (see `_fleet_streams`).

    Raises:
        NetworkError: If a process fails.
    """
    payloads = _payloads(bundle)
    start_s = time.monotonic() + _LEAD_S
    shares = [load.streams // _PROCESSES] * _PROCESSES
    shares[0] += load.streams - sum(shares)
    children = []
    for number, streams in enumerate(shares):
        if streams == 0:
            continue
        orders = Orders(
            server=server,
            model=bundle.manifest.name,
            payloads=payloads,
            streams=streams,
            fps=load.fps,
            deadline_s=load.deadline_s,
            start_s=start_s,
            seconds=load.seconds,
            seed=seed * _PROCESSES + number,
        )
        command = [sys.executable, str(_STREAMS_FILE), json.dumps(asdict(orders))]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    rows: list[list[float]] = []
    for child in children:
        said, complaint = child.communicate(timeout=load.seconds + 60)
        if child.returncode != 0:
            raise NetworkError(f"streams: {complaint.decode(errors='replace').strip()[-300:]}")
        rows += json.loads(said)["rows"]
    return np.array(rows)


def live_figures(rows: NDArray[np.float64], load: Load) -> Figures:
    """Return what became of the frames."""
    done = rows[rows[:, _OUTCOME] == 0]
    latency_s = done[:, _ANSWERED] - done[:, _CAPTURED]
    sizes, _ = _batches(done)
    return Figures(
        throughput_per_s=len(done) / load.seconds,
        hit_share=float(np.count_nonzero(latency_s <= load.deadline_s)) / len(rows),
        mean_batch=float(sizes.mean()),
        latency_p50_s=float(np.median(latency_s)),
    )


def simulate(rows: NDArray[np.float64], load: Load, *, max_batch: int, seed: int) -> tuple[Figures, Service]:
    """Return the figures of the same fleet simulated with the times that `rows` tell."""
    done = rows[rows[:, _OUTCOME] == 0]
    service = _service(done, max_batch=max_batch)
    back_s = float(np.median(done[:, _ANSWERED] - done[:, _BEGUN] - done[:, _COMPUTED]))
    # A stall of the machine meets every stream at once, so the ways are taken in the order of their captures,
    # those of frames that expired too. A frame whose budget was spent before it could be sent had no way.
    sent = rows[rows[:, _SENT] > 0]
    sent = sent[np.argsort(sent[:, _CAPTURED])]
    arrived = sent[:, _RECEIVED] > 0
    transit_s = sent[:, _RECEIVED] - sent[:, _SENT]
    transit_s[~arrived] = np.median(transit_s[arrived])
    # The simulation begins where the first period of the live clocks does.
    origin_s = np.floor(rows[:, _CAPTURED].min() * load.fps) / load.fps
    link = LinkClass(
        name="loopback",
        instants_s=tuple(sent[:, _CAPTURED] - origin_s - 1e-9),
        share=1.0,
        before_s=tuple(sent[:, _SENT] - sent[:, _CAPTURED]),
        # The median of the way back counts as the region's, in both directions.
        transit_s=tuple(transit_s - back_s),
        back_s=tuple(
            np.where(
                sent[:, _OUTCOME] == 0,
                sent[:, _ANSWERED] - sent[:, _BEGUN] - sent[:, _COMPUTED] - back_s,
                0.0,
            )
        ),
    )
    # Few streams meet as their clocks happen to lie: those are the fleet's own, like its links.
    first = rows[rows[:, _CAPTURED] < rows[:, _CAPTURED].min() + 1 / load.fps - 1e-9]
    phases = np.sort(first[:, _CAPTURED] * load.fps % 1.0)
    run: FleetRun = run_fleet(
        FleetWorld(
            devices=load.streams,
            servers=1,
            fps=load.fps,
            deadline_s=load.deadline_s,
            reserve_s=0.0,
            duration_s=load.seconds,
            service=service,
            links=(link,),
            regions=(Region(name="here", share=1.0, rtt_s=2 * back_s),),
            arrivals=Arrivals(phases=tuple(float(phase) for phase in phases)),
            seed=seed,
        )
    )
    return Figures(
        throughput_per_s=run.throughput,
        hit_share=run.hit_share,
        mean_batch=run.mean_batch,
        latency_p50_s=run.latency_s(0.5) or 0.0,
    ), service


def _batches(done: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return size and [begin, seconds] of every batch, by its beginning."""
    ordered = done[np.argsort(done[:, _BEGUN])]
    new = np.flatnonzero(np.diff(ordered[:, _BEGUN], prepend=-1.0) > _SAME_S)
    sizes = np.diff(np.append(new, len(ordered))).astype(float)
    return sizes, ordered[new][:, [_BEGUN, _COMPUTED]]


def _service(done: NDArray[np.float64], *, max_batch: int) -> Service:
    """Return the tail's costs by least squares over batch sizes, with the pause between two batches."""
    sizes, timed = _batches(done)
    begun_s, computed_s = timed[:, 0], timed[:, 1]
    first_received_s = np.array(
        [done[np.abs(done[:, _BEGUN] - begin_s) <= _SAME_S, _RECEIVED].min() for begin_s in begun_s]
    )
    ended_s = begun_s[:-1] + computed_s[:-1]
    followed = first_received_s[1:] < ended_s
    # A tail that is wanted again pauses while the loop hands out answers: capacity as well.
    gap_s = np.where(followed, begun_s[1:] - ended_s, np.nan)
    usual_s = float(np.nanmedian(gap_s)) if followed.any() else 0.0
    pause_s = np.append(np.where(followed, gap_s, usual_s), usual_s)
    # What the first frame of a batch waits although the tail is idle: parsing, decoding, the loop.
    idle = np.append(True, ~followed)
    handling_s = float(np.median((begun_s - first_received_s)[idle]))
    frame_s = 0.0
    if len(set(sizes)) > 1:
        slope = np.polyfit(sizes, computed_s, 1, w=1 / computed_s)[0]
        frame_s = float(min(max(0.0, slope), np.median(computed_s / sizes)))
    batch_s = float(max(0.0, np.median(computed_s - frame_s * sizes)))
    factors = (computed_s + pause_s) / (batch_s + usual_s + frame_s * sizes)
    return Service(
        frame_s=frame_s,
        batch_s=batch_s + usual_s,
        factors=tuple(float(factor) for factor in factors),
        handling_s=max(0.0, handling_s),
        max_batch=max_batch,
    )


def _payloads(bundle: Bundle) -> list[str]:
    """Return the golden images' payloads at the bundle's last operating point, in hexadecimal."""
    point = bundle.manifest.points[-1]
    name = f"rans_{point.width_index}_{point.channels}"
    with np.load(io.BytesIO(bundle.read(GOLDEN))) as golden:
        joined, lengths = golden[name].tobytes(), golden[f"{name}_lengths"]
    ends = np.cumsum(lengths)
    return [joined[end - length : end].hex() for end, length in zip(ends, lengths, strict=True)]
