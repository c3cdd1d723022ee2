"""The last two minutes of every device, second by second, as arrays.

Decides what is remembered of a frame: its outcome, its latency to 4 %, its bytes and its point. One ring of
seconds serves all devices, so that a fleet is summed in one step, however large it is. Seconds are those of
the dashboard's monotonic clock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.events import OUTCOMES, Outcome

SECONDS = 128
# Latencies from 0.5 ms to 20 s in steps of 8 %: a quantile is within half a step.
_LEAST_S, _STEP = 0.5e-3, 1.08
BUCKETS = 140
_LOG_STEP = float(np.log(_STEP))
_OUTCOME_INDEX = {outcome: index for index, outcome in enumerate(OUTCOMES)}

Floats = NDArray[np.float32]


class History:
    """Counts frames by device and second; a device is a row."""

    def __init__(self) -> None:
        self._rows = 0
        self._second: int | None = None
        self._frames: list[tuple[int, int, int, float, int]] = []
        self.outcomes = np.zeros((16, SECONDS, len(OUTCOMES)), np.uint32)
        self.latencies = np.zeros((16, SECONDS, BUCKETS), np.uint16)
        self.payload_bytes = np.zeros((16, SECONDS), np.float64)
        self.sent = np.zeros((16, SECONDS), np.uint32)
        self.width = np.full((16, SECONDS), -1, np.int16)
        self.channels = np.full((16, SECONDS), -1, np.int16)
        self.rate = np.full((16, SECONDS), np.nan, np.float32)
        self.power_w = np.full((16, SECONDS), np.nan, np.float32)
        self.deadline_s = np.full((16, SECONDS), np.nan, np.float32)

    @property
    def rows(self) -> int:
        """Devices so far."""
        return self._rows

    @property
    def _arrays(self) -> tuple[str, ...]:
        names = ("outcomes", "latencies", "payload_bytes", "sent")
        return (*names, "width", "channels", "rate", "power_w", "deadline_s")

    def add_row(self) -> int:
        """Return the row of a new device."""
        if self._rows == len(self.rate):
            for name in self._arrays:
                array = getattr(self, name)
                grown = np.concatenate([array, np.empty_like(array)])
                setattr(self, name, grown)
                self._blank(name, slice(self._rows, None), slice(None))
        self._rows += 1
        return self._rows - 1

    def advance(self, now_s: float) -> None:
        """Make room for the second of `now_s` and the one after it; what is two minutes old is forgotten."""
        coming = int(now_s) + 1
        before = self._second if self._second is not None else coming - SECONDS
        for second in range(max(before + 1, coming - SECONDS + 1), coming + 1):
            for name in self._arrays:
                self._blank(name, slice(None), second % SECONDS)
        self._second = max(before, coming)

    def slot(self, at_s: float) -> int | None:
        """Return where the second of `at_s` is kept; None if it is forgotten or too far ahead."""
        assert self._second is not None
        second = int(at_s)
        return second % SECONDS if self._second - SECONDS < second <= self._second else None

    def add_frame(
        self, row: int, slot: int, outcome: Outcome, latency_s: float | None, payload_bytes: int
    ) -> None:
        """Count one frame; `settle` makes it visible."""
        latency = -1.0 if latency_s is None else latency_s
        self._frames.append((row, slot, _OUTCOME_INDEX[outcome], latency, payload_bytes))

    def settle(self) -> None:
        """Make visible what was added."""
        if not self._frames:
            return
        rows, slots, outcomes, latencies_s, payloads = zip(*self._frames, strict=True)
        self._frames.clear()
        row, slot = np.array(rows), np.array(slots)
        payload = np.array(payloads)
        np.add.at(self.outcomes, (row, slot, np.array(outcomes)), 1)
        np.add.at(self.payload_bytes, (row, slot), payload)
        np.add.at(self.sent, (row, slot), payload > 0)
        latency_s = np.array(latencies_s)
        answered = latency_s >= 0.0
        np.add.at(self.latencies, (row[answered], slot[answered], bucket(latency_s[answered])), 1)

    def recent(self, seconds: int, now_s: float) -> NDArray[np.intp]:
        """Return the slots of the last `seconds` whole seconds before that of `now_s`."""
        return np.arange(int(now_s) - seconds, int(now_s)) % SECONDS

    def _blank(self, name: str, rows: slice, slots: int | slice) -> None:
        array: NDArray[Any] = getattr(self, name)
        is_count = name in ("outcomes", "latencies", "payload_bytes", "sent")
        array[rows, slots] = 0 if is_count else -1 if name in ("width", "channels") else np.nan


def bucket(latency_s: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the bucket of each latency."""
    raw = np.log(np.maximum(latency_s, _LEAST_S) / _LEAST_S) / _LOG_STEP
    return np.minimum(raw.astype(np.intp), BUCKETS - 1)


def quantile_s(counts: NDArray[Any], share: float) -> Floats:
    """Return the latency below which `share` of the counted frames lie; NaN where none was counted.

    Args:
        counts: [..., BUCKETS].
        share: In [0, 1].
    """
    cumulated = np.cumsum(counts, axis=-1, dtype=np.int64)
    total = cumulated[..., -1]
    index = (cumulated >= np.maximum(1, np.ceil(share * total))[..., None]).argmax(axis=-1)
    middle = _LEAST_S * np.exp((index + 0.5) * _LOG_STEP)
    return np.where(total > 0, middle, np.nan).astype(np.float32)
