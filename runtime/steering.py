"""A socket file by which a running process takes new settings: one JSON line in, one out.

Decides who may steer (whoever may open the file: mode 600, so its owner and root), and that a value outside
of a knob's bounds is refused. Refuses to know what is steered.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from isthmus.runtime.errors import InputError, NetworkError

Kind = Literal["agent", "link"]

_LONGEST_LINE = 4096
_TIMEOUT_S = 2.0
# What the kernel takes as the name of a socket, its final zero included.
_LONGEST_PATH = 108


class KnobState(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that can be changed while a process runs.

    Attributes:
        name: With its unit, e.g. `"rate_bytes_per_s"`.
        value: What holds now; None: no limit, or not known.
        is_set: Whether it was set here; otherwise it is what the process was started with.
        low, high: Between these it may be set.
    """

    name: str
    value: float | None
    is_set: bool
    low: float
    high: float


class Steerable(msgspec.Struct, frozen=True, kw_only=True, tag="steerable"):
    """What a process says of itself: its kind, its name for people, and its knobs."""

    kind: Kind
    name: str
    knobs: tuple[KnobState, ...]


class _Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    set: dict[str, float | None] = {}


class _Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    error: str


_Said: Any = Steerable | _Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A setting of this process that others may change.

    Attributes:
        name: With its unit.
        low, high: Between these it may be set.
        read: Returns what holds now, and whether it was set.
        write: Takes a new value; None: back to what the process was started with.
    """

    name: str
    low: float
    high: float
    read: Callable[[], tuple[float | None, bool]]
    write: Callable[[float | None], None]

    def state(self) -> KnobState:
        """Return what holds now."""
        value, is_set = self.read()
        return KnobState(name=self.name, value=value, is_set=is_set, low=self.low, high=self.high)


class SteeringSocket:
    """Listens on a socket file and turns the knobs of this process. Lives on the event loop's thread.

    Args:
        path: The file; one that a process left behind is replaced.
        kind: What this process is.
        name: What people call it.
        knobs: What can be set.
    """

    def __init__(self, path: Path, *, kind: Kind, name: str, knobs: Sequence[Knob]) -> None:
        self._path = path
        self._kind: Kind = kind
        self._name = name
        self._knobs = {knob.name: knob for knob in knobs}
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            InputError: If the file cannot be made, is no socket, or another process listens on it.
        """
        listener = _bind(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST_LINE)

    async def close(self) -> None:
        """Stop listening and remove the file."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._clients):
                writer.close()
            self._path.unlink(missing_ok=True)

    def answer(self, line: bytes) -> bytes:
        """Return the answer to one line, without its end; a wish is granted as a whole or not at all."""
        try:
            wish = msgspec.json.decode(line, type=_Wish) if line.strip() else _Wish()
            for name, value in wish.set.items():
                self._check(name, value)
        except (msgspec.DecodeError, InputError, UnicodeDecodeError) as error:
            return msgspec.json.encode(_Refusal(error=str(error)))
        for name, value in wish.set.items():
            self._knobs[name].write(value)
        knobs = tuple(knob.state() for knob in self._knobs.values())
        return msgspec.json.encode(Steerable(kind=self._kind, name=self._name, knobs=knobs))

    def _check(self, name: str, value: float | None) -> None:
        knob = self._knobs.get(name)
        if knob is None:
            raise InputError(f"{name!r} cannot be set here; known are {', '.join(self._knobs)}")
        if value is not None and not (math.isfinite(value) and knob.low <= value <= knob.high):
            raise InputError(f"{name} {value:g}: give {knob.low:g} to {knob.high:g}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        # A client that vanishes, or one whose line never ends, is let go.
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(self.answer(line) + b"\n")
                await writer.drain()
        self._clients.discard(writer)
        writer.close()


async def steer(path: Path, wish: dict[str, float | None] | None = None) -> Steerable:
    """Set what `wish` names (None: back to the start's) in the process behind `path`; return what holds then.

    Raises:
        InputError: If the process refuses a value.
        NetworkError: If no process answers there.
    """
    try:
        answer = await asyncio.wait_for(_ask(path, msgspec.json.encode(_Wish(set=wish or {}))), _TIMEOUT_S)
        said: Steerable | _Refusal = msgspec.json.decode(answer, type=_Said)
    except (OSError, asyncio.TimeoutError, msgspec.DecodeError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "it does not answer"
        raise NetworkError(
            f"{path}: {cause}; give the --control file of an agent or a link that runs"
        ) from None
    if isinstance(said, _Refusal):
        raise InputError(f"{path}: {said.error}")
    return said


async def _ask(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(line + b"\n")
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) >= _LONGEST_PATH:
        raise InputError(f"--control {path}: longer than a socket's name may be; choose a shorter path")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"--control {path}: {error.strerror or error}; choose another file") from None
    except InputError:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Remove the socket of a process that has ended; refuse to touch anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(f"--control {path}: there is something else; choose another file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TIMEOUT_S)
        with contextlib.suppress(ConnectionRefusedError):
            probe.connect(os.fspath(path))
            raise InputError(f"--control {path}: another process listens there; choose another file")
    path.unlink()
