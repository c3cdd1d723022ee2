"""Layers of a training's settings, flags > environment > TOML file, and how they are written down.

Decides what a text becomes. Knows nothing of torch.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.models.train_options import OPTIONS
from isthmus.runtime.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "ISTHMUS_TRAIN_"


def read_layers(
    flags: Mapping[str, Any],
    *,
    file: Path | None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what flags, environment and `file` set, converted; the uppermost layer wins, None is not set.

    Raises:
        InputError: If the file cannot be read, a name is unknown, or a value is not of its kind.
    """
    environ = os.environ if environ is None else environ
    names = {name for name in environ if name.startswith(PREFIX)}
    for name in sorted(names):
        if name[len(PREFIX) :].lower() not in OPTIONS:
            raise InputError(f"{name}: there is no setting {name[len(PREFIX) :].lower()!r}; unset it")
    in_environ = {name[len(PREFIX) :].lower(): environ[name] for name in names}
    layers = (read_toml(file) if file is not None else {}, in_environ, flags)
    return merged(*layers)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `layers`, later ones over earlier ones, converted; None is not set.

    Two settings that exclude each other replace each other: `cut` and `plan`, `target_bytes` and a price.
    """
    settings: dict[str, Any] = {}
    for layer in layers:
        given = {name: converted(name, value) for name, value in layer.items() if value is not None}
        for one, other in (
            ("cut", "plan"),
            ("plan", "cut"),
            ("rate_price", "target_bytes"),
            ("target_bytes", "rate_price"),
        ):
            if one in given and other not in given:
                settings.pop(other, None)
        settings.update(given)
    return settings


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting, defaults where `settings` has none."""
    return {name: settings.get(name, option.default) for name, option in OPTIONS.items()}


def read_toml(file: Path) -> dict[str, Any]:
    """Return the settings in `file`.

    Raises:
        InputError: If it cannot be read, is no TOML, or has an unknown key.
    """
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; give a TOML file of settings") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a TOML file ({error}); mend it") from None
    for name in settings:
        if name not in OPTIONS:
            raise InputError(f"{file}: setting {name!r} is unknown; 'isthmus train --show-config' lists them")
    return settings


def converted(name: str, value: Any) -> Any:
    """Return `value`, as a flag, a variable or a TOML file gives it, as a value of its setting.

    Raises:
        InputError: If it is none.
    """
    option = OPTIONS[name]
    result = _CONVERT[option.kind](name, value)
    if option.choices and result not in option.choices:
        raise InputError(f"{name} {value!r}: give one of {', '.join(option.choices)}")
    least = option.least
    if least is not None and not all(number >= least for number in _flat(result)):
        raise InputError(f"{name} {value!r}: give at least {least:g}")
    return result


def to_toml(settings: Mapping[str, Any], *, unset: bool = False) -> str:
    """Return `settings` as a TOML file that reads back to the same; with `unset`, unset ones as comments."""
    plain = {name: value for name, value in settings.items() if value is not None and value != {}}
    lines = [f"{name} = {_toml(value)}" for name, value in plain.items() if not isinstance(value, Mapping)]
    if unset:  # before the tables, where it can be filled in
        lines += [f"# {name} =" for name in settings if name not in plain]
    for name, value in plain.items():
        if isinstance(value, Mapping):
            lines += [f"\n[{name}]", *(f"{key} = {_toml(item)}" for key, item in value.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} {value!r}: give a whole number") from None


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} {value!r}: give a number") from None
    if number != number:
        raise InputError(f"{name} {value!r}: give a number")
    return number


def _flag(name: str, value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise InputError(f"{name} {value!r}: give true or false")
    return known[str(value).lower()]


def _text(name: str, value: Any) -> str:
    if isinstance(value, list | dict) or not str(value):
        raise InputError(f"{name} {value!r}: give a text")
    return str(value)


def _list(name: str, value: Any) -> list[Any]:
    """Return numbers, or rows of numbers: a text has commas between them, and slashes within a row."""
    shown = f"--{name.replace('_', '-')} {value!r}"
    try:
        items = _numbers(value)
    except (TypeError, ValueError):
        raise InputError(f"{shown}: give numbers separated by commas") from None
    rows = [item for item in items if isinstance(item, list)]
    if rows and not OPTIONS[name].rows:
        raise InputError(f"{shown}: give numbers separated by commas, no rows of them")
    if OPTIONS[name].rows and not (items and all(rows)):
        raise InputError(f"{shown}: give numbers, or rows of numbers, none of them empty")
    if any(isinstance(item, list) for row in rows for item in row):
        raise InputError(f"{shown}: give rows of numbers, not rows of rows")
    if OPTIONS[name].whole and not all(isinstance(number, int) for number in _flat(items)):
        raise InputError(f"{shown}: give whole numbers")
    return items


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [number for item in value for number in _flat(item)]


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, str):
        value = [part.split("/") if "/" in part else part for part in value.split(",")]
    items = value if isinstance(value, list | tuple) else [value]
    return [_numbers(item) if isinstance(item, list | tuple) else _plain(item) for item in items]


def _plain(item: Any) -> int | float:
    if isinstance(item, bool):
        raise ValueError
    text = str(item).strip()
    number = (
        item if isinstance(item, int | float) else int(text) if text.lstrip("-").isdecimal() else float(text)
    )
    if not math.isfinite(number):
        raise ValueError
    return number


def _table(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    pairs = [part.partition("=") for part in str(value).split(",")]
    if not all(separator for _, separator, _ in pairs):
        raise InputError(f"{name} {value!r}: give NAME=VALUE,NAME=VALUE")
    return {key.strip(): _guessed(text.strip()) for key, _, text in pairs}


def _guessed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_CONVERT: Mapping[str, Any] = {
    "text": _text,
    "path": _text,
    "whole": _whole,
    "number": _number,
    "flag": _flag,
    "list": _list,
    "table": _table,
}
