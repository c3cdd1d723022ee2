"""Write a trace in the formats that `formats` reads.

`columns` and `json` keep every segment; `mahimahi` rounds to packets of 1,500 bytes and milliseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Final

from isthmus.runtime.errors import InputError
from isthmus.runtime.links.trace import RateTrace

_PACKET_BYTES = 1500
_MOST_PACKETS = 10_000_000


def columns_text(trace: RateTrace) -> str:
    """Return lines `seconds Mbit/s`: the rate until that second."""
    rows = _segments(trace)
    return "".join(f"{end_s!r} {rate * 8e-6!r}\n" for _, end_s, rate in rows)


def json_text(trace: RateTrace) -> str:
    """Return a JSON list of `{"duration_ms", "bandwidth_kbps"}`, an entry a line."""
    entries = [
        json.dumps({"duration_ms": (end_s - start_s) * 1e3, "bandwidth_kbps": rate / 125.0})
        for start_s, end_s, rate in _segments(trace)
    ]
    return "[\n" + ",\n".join(entries) + "\n]\n"


def csv_text(trace: RateTrace) -> str:
    """Return a CSV table; `csv:FILE,rate=rate_bytes_per_s,unit=B,until=until_s` reads it."""
    lines = [f"{end_s!r},{rate!r}\n" for _, end_s, rate in _segments(trace)]
    return "".join(["until_s,rate_bytes_per_s\n", *lines])


def mahimahi_text(trace: RateTrace) -> str:
    """Return one line a packet: the millisecond at which 1,500 bytes may leave.

    The last packet leaves at the very end, because there a reader takes the trace to begin again.

    Raises:
        InputError: If the trace carries less than half a packet, or too many to be written.
    """
    packets = round(trace.bytes_per_loop / _PACKET_BYTES)
    if not 1 <= packets <= _MOST_PACKETS:
        raise InputError(
            f"{trace.name}: {packets} packets of {_PACKET_BYTES} bytes in one pass, 1 to {_MOST_PACKETS} can "
            "be written as mahimahi; choose another format"
        )
    end_ms = max(1, math.ceil(trace.duration_s * 1e3 - 1e-6))
    leaving_ms = [
        min(end_ms, math.ceil(trace.finish(0.0, number * _PACKET_BYTES) * 1e3 - 1e-6))
        for number in range(1, packets)
    ]
    return "".join(f"{at_ms}\n" for at_ms in [*leaving_ms, end_ms])


# Name on the command line → writer; `parse_trace` reads all but `csv`, which `csv:FILE,...` reads.
WRITERS: Final[dict[str, Callable[[RateTrace], str]]] = {
    "columns": columns_text,
    "json": json_text,
    "mahimahi": mahimahi_text,
    "csv": csv_text,
}


def _segments(trace: RateTrace) -> list[tuple[float, float, float]]:
    """Return (start, end, rate) of every segment."""
    starts = trace.segments()
    ends_s = [start_s for start_s, _ in starts[1:]] + [trace.duration_s]
    return [(start_s, end_s, rate) for (start_s, rate), end_s in zip(starts, ends_s, strict=True)]
