"""The agent's configuration: one frozen object per process, read once; flags > environment > TOML file.

Decides what a valid setting is. An environment variable is `ISTHMUS_AGENT_` and the setting in capitals
(`ISTHMUS_AGENT_SERVER`); the TOML file has the same names, in lower case, at its top level.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.device_agents.bank import ProviderChoice
from isthmus.runtime.errors import InputError
from isthmus.runtime.units import parse_duration_s

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PREFIX = "ISTHMUS_AGENT_"

# Every setting with its default, as a user would write it; None: unset.
DEFAULTS: Mapping[str, str | None] = {
    "server": "127.0.0.1:8001",
    "source": None,
    "fps": "30",
    "deadline": "150ms",
    "policy": "expected-utility",
    "frames": None,
    "duration": None,
    "events": None,
    "model": None,
    "codec": None,
    "threads": "1",
    "provider": "auto",
    "insecure": "false",
    "connect_timeout": "5s",
    "retry_cap": "5s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told.

    Attributes:
        server: HOST:PORT of the tail server.
        source: The data set that frames come from.
        fps: Frames captured per second.
        deadline_s: Seconds from capture within which a frame must be answered.
        policy: Name of the policy, as `make_policy` takes it.
        frames: Stop after so many frames; None: no such limit.
        duration_s: Stop after so many seconds; None: no such limit.
        events: File of the event log; None: no log.
        model: Name of the model on the server; None: the bundle's.
        codec: Name of the codec; None: the one the bundle prefers.
        threads: ONNX Runtime threads per session.
        provider: ONNX Runtime execution provider.
        insecure: Speak plain text to a server that is not this host.
        connect_timeout_s: Seconds one attempt to reach the server may take.
        retry_cap_s: No pause between attempts has a ceiling beyond it.

    Raises:
        InputError: If a value cannot be used.
    """

    server: str
    source: str
    fps: float = 30.0
    deadline_s: float = 0.15
    policy: str = "expected-utility"
    frames: int | None = None
    duration_s: float | None = None
    events: Path | None = None
    model: str | None = None
    codec: str | None = None
    threads: int = 1
    provider: ProviderChoice = "auto"
    insecure: bool = False
    connect_timeout_s: float = 5.0
    retry_cap_s: float = 5.0

    def __post_init__(self) -> None:
        _between("fps", self.fps, 0.01, 1000.0, "frames per second")
        _between("deadline", self.deadline_s, 0.001, 3600.0, "seconds")
        _between("connect_timeout", self.connect_timeout_s, 0.05, 600.0, "seconds")
        _between("retry_cap", self.retry_cap_s, 0.05, 3600.0, "seconds")
        _between("threads", self.threads, 1, 256, "threads")
        if self.frames is not None and self.frames < 1:
            raise InputError(f"frames {self.frames}: give 1 or more, or leave it out to run until Ctrl-C")
        if self.duration_s is not None and self.duration_s <= 0:
            raise InputError(
                f"duration {self.duration_s:g} s: give more than 0, or leave it out to run until Ctrl-C"
            )
        host = _host_of(self.server)
        if not self.insecure and not _is_loopback(host):
            raise InputError(
                f"server {self.server}: not this host, and without TLS (not in this version) features cross "
                "the network in plain text; give --insecure to accept that"
            )


def read_config(
    flags: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> AgentConfig:
    """Return the configuration from `flags` (None: not given), the environment and a TOML `file`.

    Raises:
        InputError: If the file cannot be read, a name is unknown, or a value cannot be used.
    """
    environ = os.environ if environ is None else environ
    settings: dict[str, Any] = dict(DEFAULTS)
    settings.update(_from_file(file) if file is not None else {})
    settings.update(
        {name: environ[_PREFIX + name.upper()] for name in DEFAULTS if _PREFIX + name.upper() in environ}
    )
    settings.update({name: value for name, value in flags.items() if value is not None})
    if settings["source"] is None:
        raise InputError("source is not set: give --source digits, --source npz:FILE or --source folder:DIR")
    return AgentConfig(
        server=str(settings["server"]),
        source=str(settings["source"]),
        fps=_number("fps", settings["fps"], float),
        deadline_s=parse_duration_s(str(settings["deadline"])),
        policy=str(settings["policy"]),
        frames=_optional("frames", settings["frames"], lambda name, value: _number(name, value, int)),
        duration_s=_optional("duration", settings["duration"], lambda _, value: parse_duration_s(str(value))),
        events=_optional("events", settings["events"], lambda _, value: Path(str(value)).expanduser()),
        model=_optional("model", settings["model"], lambda _, value: str(value)),
        codec=_optional("codec", settings["codec"], lambda _, value: str(value)),
        threads=_number("threads", settings["threads"], int),
        provider=settings["provider"],
        insecure=_flag("insecure", settings["insecure"]),
        connect_timeout_s=parse_duration_s(str(settings["connect_timeout"])),
        retry_cap_s=parse_duration_s(str(settings["retry_cap"])),
    )


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


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in known:
        raise InputError(f"{name} {value!r}: give true or false")
    return known[str(value).lower()]


def _between(name: str, value: float, low: float, high: float, unit: str) -> None:
    # Written so that NaN, which compares false with everything, is refused too.
    if not low <= value <= high:
        raise InputError(f"{name} {value:g}: give {low:g} to {high:g} {unit}")


def _host_of(server: str) -> str:
    host, colon, port = server.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise InputError(f"server {server!r}: give HOST:PORT, for example 127.0.0.1:8001")
    return host.strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
