"""A server's settings as users write them, and the layers they are read from: flags > environment > file.

Decides the names and how text becomes a value. An environment variable is `ISTHMUS_SERVE_` and the setting in
capitals (`ISTHMUS_SERVE_PORT`); the TOML file has the same names, in lower case, at its top level. Lists may
be TOML arrays or one text with commas. Which values are valid is for `config` to say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from isthmus.runtime.errors import InputError
from isthmus.runtime.server.config import ServerConfig
from isthmus.runtime.units import parse_duration_s

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PREFIX = "ISTHMUS_SERVE_"


def read_config(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> ServerConfig:
    """Return the configuration from `flags` (None: not given), the environment and a TOML `file`.

    Args:
        flags: From the command line, by the names of `SETTINGS`.
        environ: The environment; None: this process's.
        file: A TOML file. Relative paths in it start where it is.

    Raises:
        InputError: If the file cannot be read, a name in it is unknown, or a value cannot be used.
        NetworkError: If the host is no address.
    """
    environ = os.environ if environ is None else environ
    settings: dict[str, Any] = _from_file(file) if file is not None else {}
    settings.update(
        {name: environ[_PREFIX + name.upper()] for name in SETTINGS if _PREFIX + name.upper() in environ}
    )
    settings.update({name: value for name, value in flags.items() if value is not None})
    fields = {}
    for name, value in settings.items():
        field, convert = SETTINGS[name]
        fields[field] = convert(name, value)
    return ServerConfig(**fields)


def _text(_name: str, value: Any) -> str:
    return str(value)


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} {value!r}: give a whole number") from None


def _port(name: str, value: Any) -> int | None:
    return None if value == "off" else _whole(name, value)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise InputError(f"{name} {value!r}: give true or false")
    return known[str(value).lower()]


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise InputError(f"{name} {value!r}: give a path")
    return Path(value).expanduser()


def _paths(name: str, value: Any) -> tuple[Path, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise InputError(f"{name} {value!r}: give a list of directories")
    return tuple(_path(name, item.strip() if isinstance(item, str) else item) for item in items)


def _duration(_name: str, value: Any) -> float:
    return parse_duration_s(str(value))


def _allow(name: str, value: Any) -> Path | dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        return _path(name, value)
    for bundle, who in value.items():
        if not isinstance(who, list | tuple) or not all(isinstance(one, str) for one in who):
            raise InputError(f"{name}: {bundle} = {who!r}: give a list of identities")
    return {bundle: tuple(who) for bundle, who in value.items()}


# Setting → the field of `ServerConfig` and how what a user wrote becomes it.
SETTINGS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "bundles": ("bundles", _paths),
    "host": ("host", _text),
    "port": ("port", _whole),
    "threads": ("threads", _whole),
    "max_batch": ("max_batch", _whole),
    "queue": ("queue_frames", _whole),
    "stream_window": ("stream_window", _whole),
    "max_rpcs": ("max_rpcs", _whole),
    "max_message_bytes": ("max_message_bytes", _whole),
    "grace": ("grace_s", _duration),
    "insecure": ("insecure", _flag),
    "certificate": ("certificate", _path),
    "key": ("key", _path),
    "client_authority": ("client_authority", _path),
    "revoked": ("revoked", _path),
    "token_file": ("token_file", _path),
    "allow": ("allow", _allow),
    "max_connections": ("max_connections", _whole),
    "max_streams_per_client": ("max_streams_per_client", _whole),
    "client_credit": ("client_credit", _whole),
    "metrics_host": ("metrics_host", _text),
    "metrics_port": ("metrics_port", _port),
    "processes": ("processes", _whole),
    "hung_after": ("hung_s", _duration),
    "backend": ("backend", _text),
    "provider": ("provider", _text),
    "precision": ("precision", _text),
    "repository": ("repository", _path),
    "watch": ("watch", _flag),
    "json_logs": ("json_logs", _flag),
    "traces": ("traces", _flag),
}

_PATHS = ("bundles", "certificate", "key", "client_authority", "revoked", "token_file", "allow", "repository")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror or error}; give a TOML file with the server's settings"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a TOML file ({error}); mend it") from None
    for name in settings:
        if name not in SETTINGS:
            raise InputError(f"{file}: setting {name!r} is unknown; known are {', '.join(SETTINGS)}")
    for name in _PATHS:
        if name in settings:
            settings[name] = _beside(file.parent, SETTINGS[name][1](name, settings[name]))
    return settings


def _beside(folder: Path, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(folder / path for path in value)
    return folder / value if isinstance(value, Path) else value
