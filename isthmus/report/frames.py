"""Frame events as columns, a batch at a time, because a log has one event per image and a run has many.

Decides how lines become columns, and which names (operating points, reasons) stand for which indices. Knows
nothing of files' order and draws no conclusion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.event_lines import Lines, decode_lines
from isthmus.runtime.events import OUTCOMES, Event, FrameEvent

NOTHING = -1  # no answer, no truth
IN_TIME = tuple(OUTCOMES.index(name) for name in ("remote", "exit", "local"))

# Every duration of a frame's end, whatever the schema adds; an instant of another clock is none.
TIMES = tuple(
    name
    for name, hint in get_type_hints(FrameEvent).items()
    if hint == float | None and name != "server_received_s"
)
_INTEGERS = ("frame", "payload_bytes", "answer", "truth", "probe")
_OUTCOME_INDEX = {name: index for index, name in enumerate(OUTCOMES)}

# Times and rates differ from frame to frame; with every quantity replaced, like reasons count together.
_QUANTITY = re.compile(
    r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?(?:\s?(?:%|(?:[kMG]?(?:B|bit)(?:/s)?|µs|us|ms|s)\b))?"
)
_DIGIT = re.compile(r"\d")
_DIGITS = b"0123456789"

# What a monotonic clock, a counter of frames and a payload can be at all: a line beyond is no event.
_Instant = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Class = Annotated[int, msgspec.Meta(ge=NOTHING, le=1 << 31)]

# A frame with as little work per line as it takes: no object cycles, absent times as NaN.
_Row = msgspec.defstruct(
    "_Row",
    [
        ("frame", _Count),
        ("payload_bytes", _Count, 0),
        ("answer", _Class | None, NOTHING),
        ("truth", _Class | None, NOTHING),
        ("probe", bool, False),
        ("captured_s", _Instant),
        ("at_s", _Instant),
        *((name, float | None, math.nan) for name in TIMES),
        ("outcome", get_type_hints(FrameEvent)["outcome"]),
        ("point", OperatingPoint | None, None),
        ("reason", str, ""),
    ],
    tag="frame",
    frozen=True,
    kw_only=True,
    gc=False,
)
# The other events are only told apart here.
_OTHERS = [
    msgspec.defstruct(f"_{kind.__name__}", [], tag=kind.__struct_config__.tag, frozen=True, gc=False)
    for kind in get_args(Event)
    if kind is not FrameEvent
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """One row per frame event.

    `outcome` indexes `OUTCOMES`; `point` and `reason` index those of the `FrameDecoder`. Absent integers are
    `NOTHING`, absent durations NaN. Instants are `time.monotonic()` seconds as logged; `times_s` has a column
    per name of `TIMES`.
    """

    frame: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    answer: NDArray[np.int64]
    truth: NDArray[np.int64]
    probe: NDArray[np.int64]
    captured_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    times_s: NDArray[np.float64]
    outcome: NDArray[np.int64]
    point: NDArray[np.int64]
    reason: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame)

    def time_s(self, name: str) -> NDArray[np.float64]:
        """Return the column `name` of `TIMES`, seconds."""
        return np.asarray(self.times_s[TIMES.index(name)])

    def ended_as(self, outcome: str) -> NDArray[np.bool_]:
        """Return which frames ended in `outcome`."""
        return np.asarray(self.outcome == OUTCOMES.index(outcome))

    def in_time(self) -> NDArray[np.bool_]:
        """Return which frames were answered before their deadline, by the server or the device."""
        return np.isin(self.outcome, IN_TIME)

    def take(self, chosen: NDArray[Any]) -> Frames:
        """Return the rows `chosen`, a mask or indices."""
        return Frames(**{f.name: getattr(self, f.name)[..., chosen] for f in fields(self)})

    def in_order(self) -> Frames:
        """Return the frames by capture time, then number."""
        return self.take(np.lexsort((self.frame, self.captured_s)))


def join(parts: Sequence[Frames]) -> Frames:
    """Return the rows of all `parts`, of which there is at least one."""
    return Frames(
        **{f.name: np.concatenate([getattr(part, f.name) for part in parts], axis=-1) for f in fields(Frames)}
    )


class FrameDecoder:
    """Turns lines into columns.

    Attributes:
        points: Operating points by index; the first is None: nothing was computed or sent.
        reasons: Reasons by index, their quantities replaced by `#`.
        examples: One reason in full for each.
    """

    def __init__(self) -> None:
        """Start without names."""
        self.points: list[OperatingPoint | None] = [None]
        self.reasons: list[str] = []
        self.examples: list[str] = []
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_union([_Row, *_OTHERS]))
        self._point_index: dict[OperatingPoint | None, int] = {None: 0}
        self._reason_index: dict[str, int] = {}
        self._without_digits: dict[bytes, int | None] = {}

    def decode(self, lines: Lines, file: Path) -> Frames | None:
        """Return the frames among `lines`; None if there is none.

        Raises:
            ArtifactError: If a line is not an event.
        """
        return self.columns([row for row in decode_lines(self._decoder, lines, file) if type(row) is _Row])

    def columns(self, rows: Sequence[Any]) -> Frames | None:
        """Return rows or `FrameEvent`s as columns; None if there is none."""
        if not rows:
            return None
        if type(rows[0]) is FrameEvent:
            rows = [_Row(**{name: getattr(row, name) for name in _Row.__struct_fields__}) for row in rows]
        values = dict(
            zip(_Row.__struct_fields__, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
        )
        integers = {name: _integers(values[name]) for name in _INTEGERS}
        index = self._index_of_point
        return Frames(
            **integers,
            captured_s=np.array(values["captured_s"], dtype=np.float64),
            ended_s=np.array(values["at_s"], dtype=np.float64),
            times_s=np.array([values[name] for name in TIMES], dtype=np.float64),
            outcome=np.array([_OUTCOME_INDEX[name] for name in values["outcome"]], dtype=np.int64),
            point=np.array([index(point) for point in values["point"]], dtype=np.int64),
            reason=np.array(self._indices_of_reasons(values["reason"]), dtype=np.int64),
        )

    def _index_of_point(self, point: OperatingPoint | None) -> int:
        index = self._point_index.get(point)
        if index is None:
            index = self._point_index[point] = len(self.points)
            self.points.append(point)
        return index

    def _indices_of_reasons(self, texts: Iterable[str]) -> list[int]:
        # A regular expression for each of ten million frames takes too long. Texts that agree but for their
        # digits have the same reason, unless the reason itself holds a digit ("width w2").
        known, found = self._without_digits, []
        for text in texts:
            key = text.encode().translate(None, _DIGITS)
            index = known.get(key, NOTHING)
            if index is None:
                index = self._index_of_reason(text)
            elif index == NOTHING:
                index = self._index_of_reason(text)
                known[key] = None if _DIGIT.search(self.reasons[index]) else index
            found.append(index)
        return found

    def _index_of_reason(self, text: str) -> int:
        kind = _QUANTITY.sub("#", text)
        index = self._reason_index.get(kind)
        if index is None:
            index = self._reason_index[kind] = len(self.reasons)
            self.reasons.append(kind)
            self.examples.append(text)
        return index


def _union(kinds: Sequence[Any]) -> Any:
    union = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    return union


def _integers(values: Iterable[int | None]) -> NDArray[np.int64]:
    """Return `values` as integers, None as `NOTHING`."""
    try:
        return np.array(values, dtype=np.int64)
    except TypeError:  # an older log says null for what is unknown
        return np.array([NOTHING if value is None else value for value in values], dtype=np.int64)
