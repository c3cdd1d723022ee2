"""What an external meter says, as text: watts now, or joules counted so far.

A bare number is watts, unless its unit was told beforehand. Smart plugs and sensor boards often speak JSON;
there the key tells which number is meant.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.runtime.errors import InputError

_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)")
_WATTS_PER = {"uW": 1e-6, "µW": 1e-6, "mW": 1e-3, "W": 1.0, "kW": 1e3}
_JOULES_PER = {"uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6}
UNITS = (*_WATTS_PER, *_JOULES_PER)


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading.

    Attributes:
        value: Watts now, or joules counted since some instant.
        counts: Whether it is joules.
    """

    value: float
    counts: bool


def parse_reading(text: str, *, key: str = "", unit: str = "W") -> Reading:
    """Return what `text` says.

    Args:
        text: A number with or without its unit (`3.42 W`, `0.52kWh`), or a JSON object.
        key: Where the number is in the JSON object, with dots between names: `ENERGY.Power`.
        unit: Of a number that does not name its own: one of `UNITS`.

    Raises:
        InputError: If there is no such number, its unit is unknown, or it is below 0.
    """
    number = _in_json(text, key) if key or text.lstrip().startswith("{") else text
    match = _NUMBER.fullmatch(number.strip())
    if match is None:
        raise InputError(f"{_shown(number)} is no number; let the meter say one, as 3.42 W")
    value, said = float(match[1]), match[2] or unit
    if said not in UNITS:
        raise InputError(f"unit {said!r} is not known; use one of {', '.join(UNITS)}")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{_shown(number)} is below 0 or infinite; turn the meter's sensor round")
    counts = said in _JOULES_PER
    return Reading(value * (_JOULES_PER[said] if counts else _WATTS_PER[said]), counts)


def _in_json(text: str, key: str) -> str:
    try:
        found: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise InputError(f"{_shown(text)} is no JSON, so it has no {key!r}; leave the key out") from None
    if not key:
        raise InputError(f"{_shown(text)} is JSON; say which number is meant, as ?key=NAME.NAME")
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            raise InputError(f"{_shown(text)} has no {key!r}; give another key")
        found = found[name]
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()


def _shown(text: str) -> str:
    return repr(" ".join(text.split())[:60])
