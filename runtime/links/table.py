"""A trace in one column of a CSV file with a header, as measurement campaigns publish them.

`csv:FILE,rate=COLUMN,unit=Mbit` with one of `time=COLUMN` (seconds from which a row holds), `until=COLUMN`
(seconds to which it holds) and `every=1s` (rows that are evenly spaced). Nothing is guessed: a bitrate column
says neither its unit nor its clock.
"""

from __future__ import annotations

import csv
import io
import math
from itertools import pairwise

from isthmus.runtime.errors import InputError
from isthmus.runtime.links.trace import RateTrace
from isthmus.runtime.units import parse_duration_s, parse_rate_bytes_per_s

_FORM = "write csv:FILE,rate=COLUMN,unit=Mbit,time=COLUMN (or until=COLUMN, or every=1s)"
_CLOCKS = ("time", "until", "every")
_OPTIONS = ("rate", "unit", *_CLOCKS)


def split_table_spec(text: str) -> tuple[str, dict[str, str]]:
    """Return the file and the options of `FILE,rate=COLUMN,...` (without the leading `csv:`).

    Raises:
        InputError: If an option is missing, unknown or given twice.
    """
    file, options = text, dict[str, str]()
    while True:
        rest, comma, last = file.rpartition(",")
        name, equals, value = last.partition("=")
        if not comma or not equals or name not in _OPTIONS:
            break
        if name in options:
            raise InputError(f"trace 'csv:{text}': {name} is given twice; {_FORM}")
        file, options[name] = rest, value
    lacking = [name for name in ("rate", "unit") if not options.get(name)]
    if lacking or not file or sum(name in options for name in _CLOCKS) != 1:
        what = f"lacks {lacking[0]}" if lacking else "names no file" if not file else "needs one clock"
        raise InputError(f"trace 'csv:{text}': {what}; {_FORM}")
    return file, options


def parse_table(text: str, options: dict[str, str], *, name: str) -> RateTrace:
    """Return the trace in the CSV `text`; its clock is one of `time`, `until` and `every`.

    With `time` the last row lasts as long as the one before it; with `until` the first begins at 0 s.

    Raises:
        InputError: If a column is missing or a value is none; names the line.
    """
    per_unit = parse_rate_bytes_per_s(f"1{options['unit']}")
    columns = [options[key] for key in ("rate", "time", "until") if key in options]
    rows = _rows(text, columns, name)
    rates = [row[0] * per_unit for row in rows]
    if "every" in options:
        every_s = parse_duration_s(options["every"])
        return RateTrace([(every_s, rate) for rate in rates], name=name)
    times_s = [row[1] for row in rows]
    if "until" in options:
        times_s.insert(0, 0.0)
    elif len(times_s) > 1:
        times_s.append(2 * times_s[-1] - times_s[-2])
    else:
        raise InputError(f"{name}: {len(rows)} rows, which do not say how long one lasts; give every=1s")
    return RateTrace(
        [(end - begin, rate) for (begin, end), rate in zip(pairwise(times_s), rates, strict=True)], name=name
    )


def _rows(text: str, columns: list[str], name: str) -> list[list[float]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    header = reader.fieldnames or []
    for column in columns:
        if column not in header:
            found = ", ".join(header[:12]) or "an empty file"
            raise InputError(f"{name}: no column {column!r}; the header has {found}")
    rows: list[list[float]] = []
    for row in reader:
        where = f"{name}:{reader.line_num}"
        values = [_value(row[column], where, column) for column in columns]
        if len(columns) > 1 and rows and values[1] <= rows[-1][1]:
            raise InputError(f"{where}: {values[1]:g} s comes after {rows[-1][1]:g} s; times must rise")
        rows.append(values)
    return rows


def _value(text: str | None, where: str, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise InputError(f"{where}: {column} is {text!r}, not a number; mend or remove the row") from None
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{where}: {column} is {text!r}; give a finite number of at least 0")
    return value
