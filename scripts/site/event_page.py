"""The page of the event log, made from the types that write and read it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from isthmus.runtime import events

PLACE = "reference/events.md"


def event_page() -> str:
    """Return the page: every kind of line with its fields, and the stages of a frame in order."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from ("# Event log", "", _paragraphs(events.__doc__), "")
    yield "A line is a JSON object; `type` says which of these it is. Fields with a default may be absent."
    for kind in typing.get_args(events.Event):
        yield from ("", f"## `{kind.__struct_config__.tag}`", "", _paragraphs(kind.__doc__), "")
        yield from ("| field | type | default |", "|---|---|---|")
        for field in msgspec.structs.fields(kind):
            yield f"| `{field.name}` | {_type(kind, field.name)} | {_default(field)} |"
    yield from ("", "## Stages of a frame", "")
    yield from ("They fill `latency_s` in this order.", "", "| stage | where | meaning |", "|---|---|---|")
    yield from (f"| {stage.name} | {stage.where} | {stage.meaning} |" for stage in events.STAGES)
    yield ""


def _paragraphs(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "")


def _type(kind: Any, name: str) -> str:
    """Return the annotation as it stands in the code."""
    return "`" + str(inspect.get_annotations(kind)[name]).replace("|", "\\|") + "`"


def _default(field: Any) -> str:
    if field.required:
        return "required"
    return "" if field.default is None else f"`{field.default!r}`"
