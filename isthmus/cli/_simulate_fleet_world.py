"""From the flags of `isthmus simulate fleet` to the fleet: links, regions, and what the tail costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from isthmus.runtime.errors import InputError
from isthmus.runtime.simulation.fleet import (
    Arrivals,
    Autoscale,
    FleetWorld,
    LinkClass,
    Region,
    Service,
)
from isthmus.runtime.simulation.fleet.world import Admission, Pattern
from isthmus.runtime.units import format_duration, parse_duration_s, parse_rate_bytes_per_s

if TYPE_CHECKING:
    from isthmus.cli._simulate_worlds import Subject
    from isthmus.runtime.bundle import Bundle

_DEFAULT_LINKS = ("lte:0.6:4Mbit:0.6", "wifi:0.4:20Mbit:0.4")
_DEFAULT_PAYLOAD_BYTES, _OVERHEAD_BYTES = 400, 112
_TRACE_RUN_S = 120.0
# The guard's margin, as the agent starts with it.
_GUARD_S = 0.005
_TAIL_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFlags:
    """The flags as they were given."""

    target: Path | None
    devices: int
    servers: int | None
    fps: float
    deadline: str
    duration: str
    links: tuple[str, ...]
    traces: tuple[str, ...]
    policy: str
    regions: tuple[str, ...]
    payload_bytes: int | None
    compute: str | None
    tail_frame: str | None
    tail_batch: str | None
    max_batch: int
    queue_frames: int
    admission: str
    arrivals: str
    low: float
    period: str
    burst: str
    autoscale: float | None
    start_up: str
    seed: int


def fleet_world(flags: FleetFlags) -> tuple[FleetWorld, list[str]]:
    """Return the fleet, and what was assumed or measured for it, one sentence each.

    Raises:
        InputError: If a flag cannot be used, or something that it needs was not given.
        BundleError: If the bundle or table cannot be read.
    """
    from isthmus.cli._simulate_worlds import read_subject

    subject = None if flags.target is None else read_subject(flags.target)
    notes: list[str] = []
    deadline_s = parse_duration_s(flags.deadline)
    regions = tuple(_region(text) for text in flags.regions or ("all:1:20ms",))
    links = (
        _links_of_traces(flags, subject, deadline_s, notes)
        if flags.traces
        else _links_of_rates(flags, subject, notes)
    )
    frame_s, batch_s = _tail_costs(flags, subject, notes)
    scale = None
    if flags.autoscale is not None:
        scale = Autoscale(target=flags.autoscale, start_s=parse_duration_s(flags.start_up))
    return FleetWorld(
        devices=flags.devices,
        servers=flags.servers or 1,
        fps=flags.fps,
        deadline_s=deadline_s,
        reserve_s=min(_GUARD_S, deadline_s / 4),
        duration_s=parse_duration_s(flags.duration),
        service=Service(
            frame_s=frame_s,
            batch_s=batch_s,
            max_batch=flags.max_batch,
            queue_frames=flags.queue_frames,
            admission=cast(Admission, _one_of("--admission", flags.admission, get_args(Admission))),
        ),
        links=links,
        regions=regions,
        arrivals=Arrivals(
            pattern=cast(Pattern, _one_of("--arrivals", flags.arrivals, get_args(Pattern))),
            low=flags.low,
            period_s=parse_duration_s(flags.period),
            burst_s=min(parse_duration_s(flags.burst), parse_duration_s(flags.period)),
        ),
        autoscale=scale,
        seed=flags.seed,
    ), notes


def _links_of_rates(flags: FleetFlags, subject: Subject | None, notes: list[str]) -> tuple[LinkClass, ...]:
    payload, compute_s = flags.payload_bytes, 0.0
    if subject is not None:
        best = max(subject.points.records, key=lambda record: (record.utility, -record.bytes_mean))
        payload = payload or round(best.bytes_mean)
        compute_s = best.head_s
    if flags.compute is not None:
        compute_s = parse_duration_s(flags.compute)
    if payload is None:
        payload = _DEFAULT_PAYLOAD_BYTES
        notes.append(f"assumed: payloads of {payload} bytes (--payload, or a bundle, says better)")
    if not flags.links:
        notes.append(f"assumed: links {', '.join(_DEFAULT_LINKS)} (--link or --trace says better)")
    found = []
    for text in flags.links or _DEFAULT_LINKS:
        parts = text.split(":")
        if len(parts) not in (3, 4):
            raise InputError(f"--link {text!r}: give NAME:SHARE:RATE[:SIGMA], e.g. lte:0.7:2Mbit:0.5")
        found.append(
            LinkClass.of_rate(
                parts[0],
                share=_number("--link", text, parts[1]),
                rate_bytes_per_s=parse_rate_bytes_per_s(parts[2]),
                payload_bytes=float(payload + _OVERHEAD_BYTES),
                compute_s=compute_s,
                sigma=_number("--link", text, parts[3]) if len(parts) == 4 else 0.0,
            )
        )
    return tuple(found)


def _links_of_traces(
    flags: FleetFlags, subject: Subject | None, deadline_s: float, notes: list[str]
) -> tuple[LinkClass, ...]:
    """Return one class per trace, of equal shares, from a run of the real policy on each."""
    from isthmus.cli._simulate_worlds import Setting, worlds_of
    from isthmus.runtime.control import make_policy
    from isthmus.runtime.simulation import run_device

    if subject is None:
        raise InputError("--trace needs a bundle or a points.json, whose policy is simulated on it; give one")
    worlds = worlds_of(
        subject,
        Setting(
            traces=flags.traces,
            deadlines_s=(deadline_s,),
            fps=flags.fps,
            duration_s=max(_TRACE_RUN_S, 100.0 / flags.fps),
            delay_s=None,
            jitter_s=0.0,
            machine=None,
        ),
    )
    found = []
    for world in worlds:
        run = run_device(world, make_policy(flags.policy, subject.points))
        if not any(on_s < float("inf") for _, on_s in run.ways):
            raise InputError(f"--trace {world.trace.name}: the policy {flags.policy} sends nothing over it")
        found.append(
            LinkClass.of_ways(
                Path(world.trace.name).name,
                share=1.0,
                ways=run.ways,
                captured=world.frames,
                delay_s=world.delay_s,
            )
        )
    notes.append(f"simulated first: {flags.policy} on {len(found)} traces, each for as many of the devices")
    return tuple(found)


def _tail_costs(flags: FleetFlags, subject: Subject | None, notes: list[str]) -> tuple[float, float]:
    """Return seconds per frame and per batch: as given, measured on this machine, or from the table."""
    if flags.tail_frame is not None or flags.tail_batch is not None:
        frame_s = 0.0 if flags.tail_frame is None else parse_duration_s(flags.tail_frame)
        return frame_s, 0.0 if flags.tail_batch is None else parse_duration_s(flags.tail_batch)
    if subject is None:
        raise InputError("what does the tail cost? give a bundle, or --tail-frame 0.3ms --tail-batch 4ms")
    if subject.bundle is not None:
        frame_s, batch_s = measure_tail(subject.bundle, max_batch=flags.max_batch)
        notes.append(
            f"measured here: a batch of n takes {format_duration(batch_s)} + n x {format_duration(frame_s)}"
        )
        return frame_s, batch_s
    if subject.points.tail_s is None:
        raise InputError(f"{flags.target}: says nothing of the tail; give --tail-frame and --tail-batch")
    notes.append(
        f"assumed: {format_duration(subject.points.tail_s)} a frame, as the table says of one alone; "
        "batching gains nothing (--tail-frame and --tail-batch say better)"
    )
    return subject.points.tail_s, 0.0


def measure_tail(bundle: Bundle, *, max_batch: int, threads: int = 1) -> tuple[float, float]:
    """Return seconds per frame and per batch of the bundle's tail here, by least squares over batch sizes.

    Raises:
        BundleError: If the tail cannot be run.
    """
    import numpy as np

    from isthmus.runtime.bundle import TAIL
    from isthmus.runtime.server.backend import OnnxRuntimeBackend, warm_up_sizes

    latent = bundle.manifest.latent
    backend = OnnxRuntimeBackend(
        bundle.read(TAIL),
        latent=latent,
        classes=len(bundle.manifest.labels),
        threads=threads,
        max_batch=max_batch,
        where=str(bundle.root / TAIL),
    )
    sizes = warm_up_sizes(max_batch)
    rng = np.random.default_rng(1)
    batches = [
        rng.integers(0, 256, (size, latent.channels, latent.height, latent.width), dtype=np.uint8)
        for size in sizes
    ]
    taken_s: list[list[float]] = [[] for _ in sizes]
    for _ in range(_TAIL_ROUNDS):
        for number, batch in enumerate(batches):
            began = time.perf_counter()
            backend.run(batch)
            taken_s[number].append(time.perf_counter() - began)
    medians = np.array([sorted(values)[len(values) // 2] for values in taken_s])
    # Relative errors count alike: a batch of one matters as much as one of thirty-two.
    rows = np.stack([np.ones(len(sizes)), np.array(sizes, float)], axis=1) / medians[:, None]
    batch_s, frame_s = (float(value) for value in np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)[0])
    return max(frame_s, 0.0), max(batch_s, 0.0)


def _region(text: str) -> Region:
    parts = text.split(":")
    if len(parts) != 3:
        raise InputError(f"--region {text!r}: give NAME:SHARE:RTT, e.g. near:0.8:20ms")
    share = _number("--region", text, parts[1])
    return Region(name=parts[0], share=share, rtt_s=parse_duration_s(parts[2]))


def _number(flag: str, text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{flag} {text!r}: {part!r} is not a number of 0 or more; correct it")
    return value


def _one_of(flag: str, value: str, known: tuple[Any, ...]) -> str:
    if value not in known:
        raise InputError(f"{flag} {value!r}: give one of {', '.join(known)}")
    return value
