"""The frames of a run as columns, because a log has one frame event per image and a run has many.

Decides how events become columns and in which order: by capture time. Knows nothing of files and draws no
conclusion.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.bundle import OperatingPoint
from isthmus.runtime.events import OUTCOMES, FrameEvent

NOTHING = -1  # no point, no answer, no truth

_FLOAT_COLUMNS = (
    "captured_s",
    "ended_s",
    "latency_s",
    "head_s",
    "encode_s",
    "remote_s",
    "server_queue_s",
    "server_compute_s",
)
_INT_COLUMNS = (
    "frame",
    "outcome",
    "width_index",
    "channels",
    "payload_bytes",
    "answer",
    "truth",
    "reason",
    "probe",
)

# Times and rates differ from frame to frame; with every quantity replaced, like reasons count together.
_QUANTITY = re.compile(
    r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?(?:\s?(?:%|(?:[kMG]?(?:B|bit)(?:/s)?|µs|us|ms|s)\b))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """One row per frame event, ordered by capture time.

    `outcome` indexes `OUTCOMES`, `reason` indexes `reasons` (reasons with their quantities replaced by `#`).
    Absent integers are `NOTHING`, absent durations NaN. Instants are `time.monotonic()` seconds as logged.
    """

    frame: NDArray[np.int64]
    outcome: NDArray[np.int64]
    width_index: NDArray[np.int64]
    channels: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    answer: NDArray[np.int64]
    truth: NDArray[np.int64]
    reason: NDArray[np.int64]
    probe: NDArray[np.int64]
    captured_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    head_s: NDArray[np.float64]
    encode_s: NDArray[np.float64]
    remote_s: NDArray[np.float64]
    server_queue_s: NDArray[np.float64]
    server_compute_s: NDArray[np.float64]
    reasons: tuple[str, ...]
    examples: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frame)

    def ended_as(self, outcome: str) -> NDArray[np.bool_]:
        """Return which frames ended in `outcome`."""
        return np.asarray(self.outcome == OUTCOMES.index(outcome))

    def in_time(self) -> NDArray[np.bool_]:
        """Return which frames were answered before their deadline, by the server or the device."""
        return self.ended_as("remote") | self.ended_as("exit") | self.ended_as("local")

    def at(self, point: OperatingPoint | None) -> NDArray[np.bool_]:
        """Return which frames were computed or sent at `point`; None: at no point."""
        if point is None:
            return np.asarray(self.width_index == NOTHING)
        return np.asarray((self.width_index == point.width_index) & (self.channels == point.channels))

    def points(self) -> tuple[OperatingPoint, ...]:
        """Return the operating points that occur, ordered by width, then channels."""
        pairs = np.unique(np.stack([self.width_index, self.channels], axis=1), axis=0)
        return tuple(OperatingPoint(int(w), int(c)) for w, c in pairs if w != NOTHING)


class FrameColumns:
    """Collects frame events; `finish` returns them as `Frames`."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._floats = {name: array("d") for name in _FLOAT_COLUMNS}
        self._ints = {name: array("q") for name in _INT_COLUMNS}
        self._reasons: dict[str, int] = {}
        self._examples: list[str] = []

    def add(self, event: FrameEvent) -> None:
        """Append one frame."""
        floats, ints = self._floats, self._ints
        floats["captured_s"].append(event.captured_s)
        floats["ended_s"].append(event.at_s)
        for name in _FLOAT_COLUMNS[2:]:
            value = getattr(event, name)
            floats[name].append(math.nan if value is None else value)
        ints["frame"].append(event.frame)
        ints["outcome"].append(OUTCOMES.index(event.outcome))
        ints["width_index"].append(NOTHING if event.point is None else event.point.width_index)
        ints["channels"].append(NOTHING if event.point is None else event.point.channels)
        ints["payload_bytes"].append(event.payload_bytes)
        ints["answer"].append(NOTHING if event.answer is None else event.answer)
        ints["truth"].append(NOTHING if event.truth is None else event.truth)
        ints["probe"].append(event.probe)
        ints["reason"].append(self._reason_index(event.reason))

    def finish(self) -> Frames:
        """Return the frames, ordered by capture time, then frame number."""
        floats = {name: np.array(column, dtype=np.float64) for name, column in self._floats.items()}
        ints = {name: np.array(column, dtype=np.int64) for name, column in self._ints.items()}
        order = np.lexsort((ints["frame"], floats["captured_s"]))
        columns = {name: column[order] for name, column in (floats | ints).items()}
        return Frames(**columns, reasons=tuple(self._reasons), examples=tuple(self._examples))  # type: ignore[arg-type]

    def _reason_index(self, text: str) -> int:
        kind = _QUANTITY.sub("#", text)
        index = self._reasons.get(kind)
        if index is None:
            index = self._reasons[kind] = len(self._reasons)
            self._examples.append(text)
        return index
