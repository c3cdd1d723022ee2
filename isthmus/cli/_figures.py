"""Figures of a benchmark: nested mappings of numbers, checked, made plain and shown as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.runtime.errors import GateError, InputError
from isthmus.runtime.units import format_duration

if TYPE_CHECKING:
    from rich.table import Table

# A mapping with a median is one measurement; its spread is the first of these that it has.
_SPREADS = (("quartiles", "first_quartile", "third_quartile"), ("range", "min", "max"))


def check_result(result: Any, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures and ratios of a benchmark, as plain numbers and text.

    Raises:
        InputError: If `result` is not `{"figures": …, "ratios": …}`.
        GateError: If a figure is NaN or infinite: nothing was measured, so nothing may be quoted.
    """
    if not isinstance(result, Mapping) or not {"figures", "ratios"} <= set(result):
        raise InputError(f'{file}: run() must return {{"figures": …, "ratios": …}}')
    plain = {part: _plain(result[part]) for part in ("figures", "ratios")}
    for path, value in flatten(plain):
        if isinstance(value, float) and not math.isfinite(value):
            raise GateError(f"{file}: {path} is {value}; a benchmark must not quote what it did not measure")
    return plain["figures"], plain["ratios"]


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, leaf) of nested mappings and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from flatten(inner, f"{path}.{index}" if path else str(index))
    else:
        yield path, value


def figure_table(title: str, figures: Mapping[str, Any]) -> Table:
    """Return a table of `figures`: one row a measurement (median and spread) or plain value, by group."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    table.add_column("spread", style="dim", overflow="fold")
    for depth, label, value, spread in figure_rows(figures):
        table.add_row("  " * depth + label, value, spread)
    return table


def figure_rows(figures: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str, str]]:
    """Yield (depth, label, value, spread) of `figures`, as people read them; a group has neither."""
    for key, value in figures.items():
        if not isinstance(value, Mapping):
            yield depth, str(key), _shown(value, key), ""
        elif "median" in value:
            yield depth, str(key), _shown(value["median"], key), _spread(value, key)
        else:
            yield depth, str(key), "", ""
            yield from figure_rows(value, depth + 1)


def _spread(measurement: Mapping[str, Any], key: str) -> str:
    for name, low, high in _SPREADS:
        if low in measurement and high in measurement:
            return f"{name} {_shown(measurement[low], key)} to {_shown(measurement[high], key)}"
    return ""


def _shown(value: Any, key: str) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(item, key) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    if key.endswith("_s") and not key.endswith("_per_s"):  # units are part of a name
        return format_duration(value)
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:,.0f}"


def _plain(value: Any) -> Any:
    """Return mappings, sequences and numpy scalars as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    return value
