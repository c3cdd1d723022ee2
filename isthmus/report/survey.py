"""The first look at a log: everything but its frames, which is little, and how many frames there are.

What is known of the link must be known before a frame is counted, for a frame counts as captured while
connected only if the link event after it says so too. Frames are passed over without being decoded, by the
way our own writer begins their lines; a line that begins otherwise is decoded to see what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.report.links import Links, Shapes, join_links, join_shapes, links_of, shapes_of
from isthmus.runtime.errors import ArtifactError
from isthmus.runtime.event_lines import Lines, decode_lines, read_lines
from isthmus.runtime.events import (
    EVENT_SCHEMA_VERSION,
    DeadlineEvent,
    EndEvent,
    LinkEvent,
    RunEvent,
    ShapeEvent,
)

# Few enough lines for what they become to stay in a processor's cache: three times as quick as large blocks.
BLOCK_BYTES = 1 << 19

_EVENTS_AT_ONCE = 4_096
_HEAD, _TAIL = (int.from_bytes(text, "little") for text in (b'{"type":', b'"frame",'))
_PREFIX_BYTES = 16


class _Frame(msgspec.Struct, frozen=True, tag="frame", gc=False):
    captured_s: float
    at_s: float


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    RunEvent | LinkEvent | ShapeEvent | DeadlineEvent | EndEvent | _Frame
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where a line begins: which byte, and which line it is, from 1."""

    byte: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a log holds beside its frames.

    Attributes:
        file: The log.
        size_bytes: Up to its last whole line.
        cuts: Places where the file may be divided, about one per block; the last is its end.
        frames: Frame events.
        span_s: Capture of the frame that stands first in the file, and end of the last; None without frames.
        torn: Something follows that is not a whole line.
    """

    file: Path
    size_bytes: int
    cuts: tuple[Cut, ...]
    frames: int
    span_s: tuple[float, float] | None
    runs: tuple[RunEvent, ...]
    ends: tuple[EndEvent, ...]
    deadlines: tuple[DeadlineEvent, ...]
    links: Links
    shapes: Shapes
    torn: bool


def survey(file: Path, *, on_bytes: Callable[[int], None] | None = None) -> Survey:
    """Read everything but the frames of `file`; `on_bytes` is told how far it is.

    Raises:
        ArtifactError: If the file cannot be read, is of another version, or a line is not an event.
    """
    found = _Findings(file)
    cuts, size, torn = [Cut(0, 1)], 0, False
    for lines in read_lines(file, block_bytes=BLOCK_BYTES):
        whole = found.add(lines)
        torn = lines.torn and not whole
        if not torn:
            size = lines.start + len(lines.data)
            cuts.append(Cut(size, lines.first + lines.data.count(b"\n")))
        if on_bytes is not None:
            on_bytes(size)
    return found.survey(size, tuple(cuts), torn)


class _Findings:
    """Collects the events of a file, a block at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._frames = 0
        self._span_s: tuple[float, float] | None = None
        self._kinds: dict[type, list[Any]] = {kind: [] for kind in (RunEvent, EndEvent, DeadlineEvent)}
        self._link_events: list[LinkEvent] = []
        self._shape_events: list[ShapeEvent] = []
        self._links: list[Links] = []
        self._shapes: list[Shapes] = []

    def add(self, lines: Lines) -> bool:
        """Add a block; return False if it holds nothing but half a line."""
        is_frame, starts, ends = _lines_of(lines.data)
        passed = np.flatnonzero(is_frame)
        # A torn line that begins like a frame need not end like one.
        looked_at = np.flatnonzero(~is_frame) if not lines.torn else np.arange(len(is_frame))
        found: list[Any] = []
        for index in [*looked_at, *(passed[[0, -1]] if len(passed) and not lines.torn else ())]:
            text = lines.data[starts[index] : ends[index]]
            if text.strip():
                one = Lines(lines.first + int(index), 0, text, lines.torn)
                found += decode_lines(_DECODER, one, self._file)
        frames = [event for event in found if type(event) is _Frame]
        if frames:
            first_s = self._span_s[0] if self._span_s else frames[0].captured_s
            self._span_s = (first_s, frames[-1].at_s)
        # The first and the last one passed over were looked at, for their instants.
        looked_twice = 0 if lines.torn else min(len(passed), 1) * 2
        self._frames += len(frames) - looked_twice + (0 if lines.torn else len(passed))
        self._sort(found)
        return bool(found) or not lines.torn

    def _sort(self, found: list[Any]) -> None:
        for event in found:
            if type(event) is RunEvent and event.schema_version != EVENT_SCHEMA_VERSION:
                raise ArtifactError(
                    f"{self._file}: event schema {event.schema_version}, this Isthmus reads "
                    f"{EVENT_SCHEMA_VERSION}"
                )
            if type(event) in self._kinds:
                self._kinds[type(event)].append(event)
        self._link_events += [event for event in found if type(event) is LinkEvent]
        self._shape_events += [event for event in found if type(event) is ShapeEvent]
        if len(self._link_events) + len(self._shape_events) >= _EVENTS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Turn events into columns: an event takes ten times as much room."""
        self._links.append(links_of(self._link_events))
        self._shapes.append(shapes_of(self._shape_events))
        self._link_events, self._shape_events = [], []

    def survey(self, size_bytes: int, cuts: tuple[Cut, ...], torn: bool) -> Survey:
        """Return what was found."""
        self._flush()
        return Survey(
            file=self._file,
            size_bytes=size_bytes,
            cuts=cuts,
            frames=self._frames,
            span_s=self._span_s,
            runs=tuple(self._kinds[RunEvent]),
            ends=tuple(self._kinds[EndEvent]),
            deadlines=tuple(self._kinds[DeadlineEvent]),
            links=join_links(self._links),
            shapes=join_shapes(self._shapes),
            torn=torn,
        )


def _lines_of(data: bytes) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return which lines of `data` begin as our writer begins a frame, and where each starts and ends."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if len(data) < _PREFIX_BYTES:
        return np.zeros(len(ends), dtype=np.bool_), starts, ends
    # Eight bytes from every place, without copying any: two comparisons tell the whole prefix.
    words = np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    places = np.minimum(starts, len(data) - _PREFIX_BYTES)
    is_frame = (words[places] == _HEAD) & (words[places + 8] == _TAIL) & (places == starts)
    return is_frame, starts, ends
