"""A run as Chrome's trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

Agent and server are two processes on one time axis, this host's clock: the server's instants are moved by
its clock's offset, which the trace states together with its uncertainty. Every frame is an asynchronous slice
with its stages inside; where the offset is known, the network's two ways are drawn apart.

Format: "Trace Event Format", Google, 2016 (async events `b`/`e`, counters `C`, metadata `M`); times are in
microseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.device_agents.profiling.clock_offset import METHOD, ClockOffset, offset_point
from isthmus.device_agents.profiling.conditions import Moment
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.events import STAGES, FrameEvent

# Of each section, unless told otherwise; a trace of everything would be too large for a browser.
MOST_FRAMES = 300

_AGENT, _SERVER = 1, 2
_ON_SERVER = tuple(stage for stage in STAGES if stage.where == "server")
_ON_LINK = tuple(stage.name for stage in STAGES if stage.where == "link")
_Event = dict[str, Any]
# A slice: what, from when to when, in seconds of this host's clock.
_Slice = tuple[str, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Frames that belong together, e.g. of one way under one scenario.

    Attributes:
        name: What they are.
        frames: Their ends.
    """

    name: str
    frames: Sequence[FrameEvent]


def agent_slices(event: FrameEvent, offset: ClockOffset | None) -> list[_Slice]:
    """Return a frame's stages as the agent sees them, one after the other from its capture on."""
    found: list[_Slice] = []
    at_s = event.captured_s
    for stage in STAGES:
        if stage.where == "server":
            continue
        if stage.name in _ON_LINK:
            if event.remote_s is None or (found and found[-1][0] in ("network back", "remote")):
                continue
            found += _remote_slices(event, offset)
            at_s = event.at_s
            continue
        seconds = stage.seconds(event)
        if seconds is not None:
            found.append((stage.name, at_s, at_s + seconds))
            at_s += seconds
    return found


def server_slices(event: FrameEvent, offset: ClockOffset | None) -> list[_Slice]:
    """Return a frame's stages on the server, on this host's clock; none where its clock is not known."""
    point = offset_point(event)
    if point is None or offset is None or event.server_received_s is None:
        return []
    at_s = event.server_received_s - offset.at(point.at_s)
    found: list[_Slice] = []
    for stage in _ON_SERVER:
        seconds = stage.seconds(event)
        if seconds is not None:
            found.append((stage.name, at_s, at_s + seconds))
            at_s += seconds
    return found


def _remote_slices(event: FrameEvent, offset: ClockOffset | None) -> list[_Slice]:
    assert event.remote_s is not None
    sent_s, there = event.at_s - event.remote_s, server_slices(event, offset)
    if not there:
        return [("remote", sent_s, event.at_s)]
    return [("network out", sent_s, there[0][1]), ("network back", there[-1][2], event.at_s)]


def trace_events(
    sections: Sequence[Section],
    *,
    offset: ClockOffset | None,
    moments: Sequence[Moment] = (),
    most_frames: int = MOST_FRAMES,
) -> dict[str, Any]:
    """Return the trace of `sections`, ready to be written as JSON.

    Args:
        sections: The frames.
        offset: The server's clock; None: no frame spoke of it, and the server is left out.
        moments: What the device was like, drawn as counters.
        most_frames: Of each section, only the first so many.
    """
    starts = [event.captured_s for section in sections for event in section.frames]
    origin_s = min([*starts, *(moment.at_s for moment in moments)], default=0.0)
    events = list(_names(offset))
    drawn = 0
    for index, section in enumerate(sections):
        frames = section.frames[:most_frames]
        drawn += len(frames)
        if frames:
            first_s = min(frame.captured_s for frame in frames)
            events.append(_event("i", section.name, first_s - origin_s, _AGENT, s="p"))
        for frame in frames:
            events += _frame(frame, f"{index}.{frame.frame}", origin_s, offset)
    for moment in moments:
        events += _counters(moment, origin_s)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "origin_monotonic_s": origin_s,
            "frames": drawn,
            "frames_left_out": len(starts) - drawn,
            **describe(offset),
        },
    }


def write_trace(path: str | os.PathLike[str], trace: dict[str, Any]) -> None:
    """Write `trace` to `path`.

    Raises:
        ArtifactError: If it cannot be written.
    """
    try:
        Path(path).write_bytes(msgspec.json.encode(trace))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}; choose another --trace file") from None


def describe(offset: ClockOffset | None) -> dict[str, Any]:
    """Return what is to be said of the server's clock wherever its instants are shown."""
    if offset is None:
        return {"clock": "no server, or one that does not tell its clock"}
    return {
        "clock_offset_s": offset.surest.offset_s,
        "clock_offset_uncertainty_s": offset.surest.delay_s / 2,
        "clock_worst_uncertainty_s": offset.uncertainty_s,
        "clock_drift": offset.drift,
        "clock_segments": len(offset.segments),
        "clock_frames": offset.frames,
        "clock_method": METHOD,
    }


def _frame(event: FrameEvent, name: str, origin_s: float, offset: ClockOffset | None) -> Iterator[_Event]:
    point = event.point
    facts: dict[str, Any] = {"frame": event.frame, "outcome": event.outcome, "reason": event.reason}
    if point is not None:
        facts |= {"width_index": point.width_index, "channels": point.channels}
    if event.payload_bytes:
        facts["payload_bytes"] = event.payload_bytes
    whole = ("frame", event.captured_s, event.at_s)
    yield from _slices([whole, *agent_slices(event, offset)], name, origin_s, _AGENT, facts)
    there = server_slices(event, offset)
    if there:
        whole = ("frame", there[0][1], there[-1][2])
        yield from _slices([whole, *there], name, origin_s, _SERVER, facts)


def _slices(
    slices: Iterable[_Slice], name: str, origin_s: float, process: int, facts: dict[str, Any]
) -> Iterator[_Event]:
    for number, (what, begin_s, end_s) in enumerate(slices):
        arguments = {"args": facts} if number == 0 else {}
        for phase, at_s in (("b", begin_s), ("e", end_s)):
            extra = arguments if phase == "b" else {}
            yield _event(phase, what, at_s - origin_s, process, cat="frame", id=name, **extra)


def _counters(moment: Moment, origin_s: float) -> Iterator[_Event]:
    values = {
        "memory, MB": moment.rss_bytes / 1e6,
        "temperature, °C": moment.thermal.temperature_c,
        "frequency, GHz": None if moment.frequency_hz is None else moment.frequency_hz / 1e9,
    }
    for name, value in values.items():
        if value is not None:
            yield _event("C", name, moment.at_s - origin_s, _AGENT, args={"value": value})


def _names(offset: ClockOffset | None) -> Iterator[_Event]:
    yield {"ph": "M", "name": "process_name", "pid": _AGENT, "args": {"name": "agent"}}
    if offset is not None:
        yield {"ph": "M", "name": "process_name", "pid": _SERVER, "args": {"name": "server"}}
        label = f"clock {offset.surest.offset_s:+.6f} s, at worst ± {offset.uncertainty_s * 1e3:.3f} ms"
        yield {"ph": "M", "name": "process_labels", "pid": _SERVER, "args": {"labels": label}}


def _event(phase: str, name: str, at_s: float, process: int, **more: Any) -> _Event:
    return {"ph": phase, "name": name, "ts": at_s * 1e6, "pid": process, "tid": process, **more}
