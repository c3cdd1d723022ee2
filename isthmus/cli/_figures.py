"""Figures of a benchmark: nested mappings of numbers, checked, made plain and shown as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.runtime.errors import GateError, InputError

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
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("spread", style="dim")
    _add_rows(table, figures, indent=0)
    return table


def _add_rows(table: Table, figures: Mapping[str, Any], *, indent: int) -> None:
    for key, value in figures.items():
        label = "  " * indent + str(key)
        if not isinstance(value, Mapping):
            table.add_row(label, _shown(value), "")
        elif "median" in value:
            table.add_row(label, _shown(value["median"]), _spread(value))
        else:
            table.add_row(label, "", "")
            _add_rows(table, value, indent=indent + 1)


def _spread(measurement: Mapping[str, Any]) -> str:
    for name, low, high in _SPREADS:
        if low in measurement and high in measurement:
            return f"{name} {_shown(measurement[low])} to {_shown(measurement[high])}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> Any:
    """Return mappings, sequences and numpy scalars as JSON can hold them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return value.tolist()
    return value
