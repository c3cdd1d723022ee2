"""From what the user gave to the worlds that are simulated: tables, traces, times."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from isthmus.runtime.bundle import POINTS, Bundle, PointTable
from isthmus.runtime.errors import BundleError, InputError
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import DeviceWorld, Lognormal, MeasuredTimes

_DEADLINE_S, _FPS, _DELAY_S = 0.15, 30.0, 0.01
# What a recorded delay's logarithm spreads by, roughly; only the median is asked for.
_JITTER_SIGMA = 0.5
# gRPC's and HTTP/2's part of a frame on an emulated link.
_FRAMING_BYTES = 43
# Beside traces, folders hold these.
_NO_TRACE = ("README", "LICENSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is simulated: a measured table, and the bundle around it if there is one."""

    name: str
    points: PointTable
    bundle: Bundle | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the command line says of the worlds; None and empty: not given."""

    traces: tuple[str, ...]
    deadlines_s: tuple[float, ...]
    fps: float | None
    duration_s: float
    delay_s: float | None
    jitter_s: float
    machine: str | None
    events: tuple[Path, ...] = field(default=())


def read_subject(path: Path) -> Subject:
    """Read a bundle, or a bare points.json.

    Raises:
        BundleError: If it is neither.
    """
    import msgspec

    from isthmus.runtime.bundle import load_bundle

    if path.is_dir():
        bundle = load_bundle(path)
        return Subject(name=bundle.manifest.name, points=bundle.points, bundle=bundle)
    try:
        points = msgspec.json.decode(path.read_bytes(), type=PointTable)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}; give a bundle or its {POINTS}") from None
    except msgspec.DecodeError as error:
        raise BundleError(f"{path}: no table of operating points ({error}); give a bundle's") from None
    if not points.records:
        raise BundleError(f"{path}: lists no operating point; export the bundle again")
    return Subject(name=path.stem, points=points, bundle=None)


def worlds_of(subject: Subject, setting: Setting) -> list[DeviceWorld]:
    """Return one world per trace and deadline, all of seed 1.

    Raises:
        InputError: If a trace, a time or the machine cannot be used.
        ArtifactError: If an event log cannot.
    """
    from isthmus.runtime.simulation import measured_times

    facts: dict[str, Any] = {"points": subject.points, "duration_s": setting.duration_s}
    if subject.bundle is not None:
        facts["overhead_bytes"] = _overhead_bytes()
    times: MeasuredTimes | None = None
    if setting.events:
        from isthmus.runtime.events import read_events

        found = [event for path in setting.events for event in read_events(path)]
        wire = {"overhead_bytes": facts["overhead_bytes"]} if subject.bundle is not None else {}
        times = measured_times(found, name=str(setting.events[0]), **wire)
        facts |= {
            "head_s": times.head_s,
            "encode_s": times.encode_s,
            "server_s": times.server_s,
            "server_queue_s": times.server_queue_s,
            "wake_s": times.wake_s,
            "jitter_s": times.jitter_s,
        }
    if setting.jitter_s > 0:
        facts["jitter_s"] = Lognormal(setting.jitter_s, _JITTER_SIGMA)
    if setting.machine is not None:
        from isthmus.cli._simulate_machine import machine_facts

        facts |= machine_facts(subject, setting.machine)
    given_fps, given_deadline_s = (times.fps, times.deadline_s) if times else (None, None)
    facts["fps"] = setting.fps or given_fps or _FPS
    facts["delay_s"] = setting.delay_s
    if setting.delay_s is None:
        facts["delay_s"] = times.delay_s if times else _DELAY_S
    deadlines_s = setting.deadlines_s or (given_deadline_s or _DEADLINE_S,)
    traces = _traces(setting, times)
    base = DeviceWorld(trace=traces[0], **facts)
    return [
        replace(base, trace=trace, deadline_s=deadline_s) for trace in traces for deadline_s in deadlines_s
    ]


def _overhead_bytes() -> int:
    """Return what the wire adds to a payload: id and budget, and gRPC's framing."""
    from isthmus.runtime.wire import lean_request

    message = lean_request(model="", frame_id="100000", payload=b"", budget_us=1 << 20)
    return message.ByteSize() + _FRAMING_BYTES


def _traces(setting: Setting, times: MeasuredTimes | None) -> list[RateTrace]:
    from isthmus.runtime.links import load_trace

    if not setting.traces and times is not None:
        return [times.trace]
    found: list[RateTrace] = []
    for spec in setting.traces or ("outage",):
        folder = Path(spec)
        if not folder.is_dir():
            found.append(load_trace(spec))
            continue
        files = sorted(file for file in folder.iterdir() if file.is_file() and file.name not in _NO_TRACE)
        if not files:
            raise InputError(f"--trace {spec}: an empty folder; give one with traces")
        found += [load_trace(str(file)) for file in files]
    return found
