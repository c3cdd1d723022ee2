"""Read a trace from a file or a specification.

Three recorded formats are told apart by their content, never by their name:

- mahimahi: one integer a line, the millisecond at which one packet of 1,500 bytes may leave;
- two columns, `seconds Mbit/s` (spaces or a comma): the rate up to that second, as Pensieve reads it;
- a JSON list of `{"duration_ms", "bandwidth_kbps"}` (Ghent); its latency is no rate and is ignored.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

import msgspec

from isthmus.runtime.errors import InputError
from isthmus.runtime.links.generators import constant, markov, sine, step
from isthmus.runtime.links.table import parse_table, split_table_spec
from isthmus.runtime.links.trace import RateTrace

_PACKET_BYTES = 1500
# Recorded packets become a mean rate over this time: short against a deadline, long against a packet.
_BIN_MS = 20
_MAX_FILE_BYTES = 64 << 20
GENERATORS = {"constant": constant, "step": step, "sine": sine, "markov": markov}
_FORMS = (
    "give a file, csv:FILE,rate=…, 'outage', constant:1.5Mbit, step:20kB@5s,3kB@5s, sine:20kB..200kB@10s or "
    "markov:20kB@4s,0B@1s"
)


def load_trace(spec: str) -> RateTrace:
    """Return the trace that `spec` names: `outage`, a generator (see `generators`), a table or a file.

    Raises:
        InputError: If it is none of these, or the file holds no trace.
    """
    if spec == "outage":
        text = resources.files(__package__).joinpath("data/outage.csv").read_text(encoding="utf-8")
        return parse_trace(text, name="outage")
    kind, separator, rest = spec.partition(":")
    if separator and kind in GENERATORS:
        return GENERATORS[kind](rest)
    if separator and kind == "csv":
        file, options = split_table_spec(rest)
        return parse_table(_read(file, spec), options, name=file)
    return parse_trace(_read(spec, spec), name=spec)


def _read(file: str, spec: str) -> str:
    path = Path(file)
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise InputError(f"trace {spec!r}: {size} bytes, more than {_MAX_FILE_BYTES}; cut it")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"trace {spec!r}: {cause}; {_FORMS}") from None


def parse_trace(text: str, *, name: str) -> RateTrace:
    """Return the trace in `text`, in any of the three recorded formats; lines that start with # are comments.

    Raises:
        InputError: If a line or entry is malformed; names the line.
    """
    if text.lstrip().startswith("["):
        return _parse_json(text, name)
    rows = [
        (number, line.replace(",", " ").split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows:
        raise InputError(f"{name}: an empty trace; {_FORMS}")
    if all(len(fields) == 1 for _, fields in rows):
        return _parse_mahimahi(rows, name)
    return _parse_columns(rows, name)


def _parse_mahimahi(rows: list[tuple[int, list[str]]], name: str) -> RateTrace:
    packets_per_bin: dict[int, int] = {}
    last_ms = 0
    for number, (field,) in rows:
        if not field.isascii() or not field.isdigit() or len(field) > 12:
            raise InputError(f"{name}:{number}: {field!r} is not a whole number of milliseconds; correct it")
        at_ms = int(field)
        if at_ms < last_ms:
            raise InputError(f"{name}:{number}: {at_ms} ms comes after {last_ms} ms; times must not fall")
        last_ms = at_ms
        packets_per_bin[at_ms // _BIN_MS] = packets_per_bin.get(at_ms // _BIN_MS, 0) + 1
    if last_ms == 0:
        raise InputError(f"{name}: every packet leaves at 0 ms, so there is no duration; record longer")
    bins = math.ceil(last_ms / _BIN_MS)
    # A packet exactly at the end of the recording belongs to the last bin.
    packets_per_bin[bins - 1] = packets_per_bin.get(bins - 1, 0) + packets_per_bin.pop(bins, 0)
    segments = []
    for index in range(bins):
        seconds = min(_BIN_MS, last_ms - index * _BIN_MS) / 1e3
        segments.append((seconds, packets_per_bin.get(index, 0) * _PACKET_BYTES / seconds))
    return RateTrace(segments, name=name)


def _parse_columns(rows: list[tuple[int, list[str]]], name: str) -> RateTrace:
    segments: list[tuple[float, float]] = []
    previous_s = 0.0
    for number, fields in rows:
        try:
            until_s, megabits = (float(field) for field in fields)
        except ValueError:
            line = " ".join(fields)[:60]
            raise InputError(f"{name}:{number}: {line!r} is not 'seconds Mbit/s'; correct the line") from None
        if not (math.isfinite(until_s) and math.isfinite(megabits) and megabits >= 0):
            raise InputError(f"{name}:{number}: {' '.join(fields)!r}: give a finite time and rate, rate ≥ 0")
        if until_s < previous_s or (until_s == previous_s and segments):
            raise InputError(f"{name}:{number}: {until_s} s comes after {previous_s} s; times must rise")
        if until_s > previous_s:  # a first line at 0 s ends an interval of no length
            segments.append((until_s - previous_s, megabits * 125e3))
        previous_s = until_s
    return RateTrace(segments, name=name)


class _GhentEntry(msgspec.Struct):
    duration_ms: float
    bandwidth_kbps: float


def _parse_json(text: str, name: str) -> RateTrace:
    try:
        entries = msgspec.json.decode(text, type=list[_GhentEntry])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: not a list of {{duration_ms, bandwidth_kbps}}: {error}") from None
    return RateTrace([(e.duration_ms / 1e3, e.bandwidth_kbps * 125.0) for e in entries], name=name)
