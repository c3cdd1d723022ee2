"""Settings as users write them, and the layers they are read from: flags > environment > TOML file.

Decides the names, their defaults, and how text becomes a value. An environment variable is `ISTHMUS_AGENT_`
and the setting in capitals (`ISTHMUS_AGENT_SERVER`); the TOML file has the same names, in lower case, at its
top level. A list of servers may be a TOML array or one text with commas. Which values are valid is for
`config` to say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.runtime.errors import InputError
from isthmus.runtime.units import parse_duration_s

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PREFIX = "ISTHMUS_AGENT_"

_SECURITY_FILES = ("authority", "certificate", "key", "token_file", "events_token_file")

# Every setting with its default, as a user would write it; None: unset.
DEFAULTS: Mapping[str, str | None] = {
    "bundle": None,
    "server": "127.0.0.1:8001",
    "servers": None,
    "failback": "10s",
    "name": None,
    "source": None,
    "fps": "30",
    "deadline": "150ms",
    "queue": "newest",
    "policy": "expected-utility",
    "objective": "accuracy",
    "exit_confidence": None,
    "frames": None,
    "duration": None,
    "events": None,
    "events_to": None,
    "events_token_file": None,
    "control": None,
    "results": None,
    "status": None,
    "model": None,
    "codec": None,
    "threads": "1",
    "provider": "auto",
    "insecure": "false",
    "authority": None,
    "certificate": None,
    "key": None,
    "token_file": None,
    "connect_timeout": "5s",
    "retry_cap": "1.5s",
    "thermal": "auto",
    "energy": "auto",
    "energy_idle": "2s",
    "device": None,
}


def read_layers(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> dict[str, Any]:
    """Return every setting, from the uppermost layer that has it.

    Args:
        flags: From the command line; None: not given.
        environ: The environment; None: this process's.
        file: A TOML file.

    Raises:
        InputError: If the file cannot be read, a name in it is unknown, or no source is given.
    """
    environ = os.environ if environ is None else environ
    in_environ = {
        name: environ[_PREFIX + name.upper()] for name in DEFAULTS if _PREFIX + name.upper() in environ
    }
    settings: dict[str, Any] = dict(DEFAULTS)
    for layer in (
        _from_file(file) if file is not None else {},
        in_environ,
        {name: value for name, value in flags.items() if value is not None},
    ):
        settings.update(layer)
        # One server given here overrules a list given further down, and a list one server.
        if "server" in layer and "servers" not in layer:
            settings["servers"] = None
    if settings["source"] is None:
        raise InputError(
            "source is not set: give --source camera:0, video:FILE, folder:DIR, npz:FILE, synthetic or digits"
        )
    return settings


def converted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `AgentConfig` from settings as users write them.

    Raises:
        InputError: If a text is no value of its kind.
    """
    text = {
        name: str(settings[name])
        for name in ("server", "source", "queue", "policy", "objective", "thermal", "energy")
    }
    return {
        **text,
        "bundle": _optional("bundle", settings["bundle"], _path),
        "name": _optional("name", settings["name"], lambda _, value: str(value)) or "",
        "servers": _optional("servers", settings["servers"], _list) or (),
        "failback_s": parse_duration_s(str(settings["failback"])),
        "fps": _number("fps", settings["fps"], float),
        "deadline_s": parse_duration_s(str(settings["deadline"])),
        "exit_confidence": _optional("exit_confidence", settings["exit_confidence"], _confidence),
        "frames": _optional("frames", settings["frames"], lambda name, value: _number(name, value, int)),
        "duration_s": _optional(
            "duration", settings["duration"], lambda _, value: parse_duration_s(str(value))
        ),
        "events": _optional("events", settings["events"], _path),
        "events_to": _optional("events_to", settings["events_to"], lambda _, value: str(value)),
        "control": _optional("control", settings["control"], _path),
        "results": _optional("results", settings["results"], lambda _, value: str(value)),
        "status": _optional("status", settings["status"], _path),
        "model": _optional("model", settings["model"], lambda _, value: str(value)),
        "codec": _optional("codec", settings["codec"], lambda _, value: str(value)),
        "threads": _number("threads", settings["threads"], int),
        "provider": settings["provider"],
        "insecure": _flag("insecure", settings["insecure"]),
        **{name: _optional(name, settings[name], _path) for name in _SECURITY_FILES},
        "energy_idle_s": parse_duration_s(str(settings["energy_idle"])),
        "device": _optional("device", settings["device"], lambda _, value: str(value)),
        "connect_timeout_s": parse_duration_s(str(settings["connect_timeout"])),
        "retry_cap_s": parse_duration_s(str(settings["retry_cap"])),
    }


def _from_file(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror or error}; give a TOML file with the agent's settings"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a TOML file ({error}); mend it") from None
    for name in settings:
        if name not in DEFAULTS:
            raise InputError(f"{file}: setting {name!r} is unknown; known are {', '.join(DEFAULTS)}")
    return settings


def _number(name: str, value: Any, kind: Any) -> Any:
    try:
        if isinstance(value, bool):
            raise ValueError
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} {value!r}: give {what}") from None


def _optional(name: str, value: Any, convert: Any) -> Any:
    return None if value is None else convert(name, value)


def _path(_name: str, value: Any) -> Path:
    return Path(str(value)).expanduser()


def _confidence(name: str, value: Any) -> float | None:
    return None if str(value).lower() in ("none", "off") else _number(name, value, float)


def _list(name: str, value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    stripped = tuple(str(item).strip() for item in items)
    if not stripped or not all(stripped):
        raise InputError(f"{name} {value!r}: give one or more, separated by commas")
    return stripped


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise InputError(f"{name} {value!r}: give true or false")
    return known[str(value).lower()]
