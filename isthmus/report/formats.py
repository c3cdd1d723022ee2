"""The formats of a report: which file each writes, and that a file is replaced whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from isthmus.report.runlog import RunLog
from isthmus.report.summary import Summary
from isthmus.runtime.errors import InputError


class Format(str, Enum):
    """What a report is written as; the value is the file's ending."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"
    CSV = "csv"
    PNG = "png"


def write_report(
    runs: Sequence[RunLog], summaries: Sequence[Summary], path: Path, *, form: Format = Format.HTML
) -> None:
    """Write the report of `runs`, whose figures `summaries` are, to `path`; an existing file is replaced.

    Raises:
        InputError: If the file cannot be written.
        MissingExtraError: If `form` needs matplotlib and it is not installed.
    """
    if not path.absolute().parent.is_dir():  # said before the work, not after it
        raise InputError(f"{path}: its folder does not exist; make it or choose another --out file")
    content = render(runs, summaries, form)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; choose another --out file") from None


def render(runs: Sequence[RunLog], summaries: Sequence[Summary], form: Format) -> bytes:
    """Return the report as the bytes of a file of the format `form`.

    Raises:
        MissingExtraError: If it needs matplotlib and that is not installed.
    """
    if form is Format.PNG:
        from isthmus.report.sheet import render_sheet

        return render_sheet(runs, summaries)
    if form is Format.HTML:
        from isthmus.report.html import render_page

        return render_page(runs, summaries).encode()
    if form is Format.MARKDOWN:
        from isthmus.report.markdown import render_markdown

        return render_markdown(runs, summaries).encode()
    if form is Format.CSV:
        return _csv(summaries).encode()
    return (json.dumps({"runs": as_figures(summaries)}, indent=2) + "\n").encode()


def as_figures(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return the figures of every run as JSON's types; field names hold their units."""
    built: list[dict[str, Any]] = msgspec.to_builtins(summaries)
    return built


def _csv(summaries: Sequence[Summary]) -> str:
    """Return one row a run and one column a figure, named by its way through the JSON; lists are left out."""
    rows = [dict(_scalars(figures)) for figures in as_figures(summaries)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}.")
        elif not isinstance(value, list | tuple):
            yield prefix + name, "" if value is None else value
