"""Durations and rates as people write them, and as we print them.

Decides which spellings are accepted: a number with its unit, never a bare number, because a bare `150` is
milliseconds to one user and seconds to the next. Prefixes are decimal (k = 1,000); case matters (`bit`, `B`).
"""

from __future__ import annotations

import math
import re

from isthmus.runtime.errors import InputError

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ/]+)")
_SECONDS_PER = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES_PER_S_PER = {
    "bit": 0.125,
    "kbit": 125.0,
    "Mbit": 125e3,
    "Gbit": 125e6,
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
}


def parse_duration_s(text: str) -> float:
    """Return the seconds that `text` says, e.g. `"150ms"`, `"5s"`, `"1m"`, `"2h"`.

    Raises:
        InputError: If it is not a number ≥ 0 followed by us, ms, s, m or h.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _SECONDS_PER:
        raise InputError(f"duration {text!r} is not a number with a unit; write it as 150ms, 5s, 1m or 2h")
    return _finite(float(match[1]) * _SECONDS_PER[match[2]], "duration", text)


def parse_rate_bytes_per_s(text: str) -> float:
    """Return the bytes per second that `text` says, e.g. `"1.5Mbit"`, `"200kbit/s"`, `"300kB"`, `"0B"`.

    Raises:
        InputError: If it is not a number ≥ 0 and bit, kbit, Mbit, Gbit, B, kB, MB or GB, with or without /s.
    """
    match = _QUANTITY.fullmatch(text.strip())
    unit = match[2].removesuffix("/s") if match else ""
    if match is None or unit not in _BYTES_PER_S_PER:
        raise InputError(
            f"rate {text!r} is not a number with a unit; write it as 1.5Mbit, 200kbit or 300kB (per second)"
        )
    return _finite(float(match[1]) * _BYTES_PER_S_PER[unit], "rate", text)


def parse_bytes(text: str) -> int:
    """Return the bytes that `text` says, e.g. `"64MB"`, `"1.5GB"`, `"512kB"`, `"300B"`.

    Raises:
        InputError: If it is not a number ≥ 0 followed by B, kB, MB or GB.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or not match[2].endswith("B") or match[2] not in _BYTES_PER_S_PER:
        raise InputError(f"size {text!r} is not a number with a unit; write it as 512kB, 64MB or 1.5GB")
    return round(_finite(float(match[1]) * _BYTES_PER_S_PER[match[2]], "size", text))


def format_duration(seconds: float) -> str:
    """Return `seconds` for people: `"850 µs"`, `"12.3 ms"`, `"4.2 s"`, `"3 m 20 s"`, `"92 h 36 m"`."""
    if abs(seconds) >= 7200:
        hours, rest = divmod(round(seconds / 60), 60)
        return f"{hours} h {rest} m"
    if abs(seconds) >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} m {rest} s"
    if abs(seconds) >= 1:
        return f"{_short(seconds)} s"
    if abs(seconds) >= 1e-3 or seconds == 0:
        return f"{_short(seconds * 1e3)} ms"
    return f"{_short(seconds * 1e6)} µs"


def format_bytes(count: float) -> str:
    """Return a number of bytes for people: `"312 B"`, `"1.5 kB"`, `"2.4 MB"`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{_short(count / size)} {unit}"
    return f"{_short(count)} B"


def format_rate(bytes_per_s: float | None) -> str:
    """Return a rate for people: `"20 kB/s"`, and `"unknown"` for None."""
    return "unknown" if bytes_per_s is None else f"{format_bytes(bytes_per_s)}/s"


def _short(value: float) -> str:
    """Return three significant digits without an exponent or trailing zeros."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _finite(value: float, what: str, text: str) -> float:
    if not math.isfinite(value):
        raise InputError(f"{what} {text!r} is too large; give a finite number")
    return value
