"""Follow event logs as they grow: new files, rotated files, files cut short.

Decides what of a log is read: its first line, and from the end backwards as much as two minutes may hold;
then whatever is appended. Reads files, knows no device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from isthmus.runtime.errors import InputError
from isthmus.runtime.events import Event, RunEvent

SUFFIX = ".jsonl"
_FIRST_LINE_BYTES = 64 << 10
# What an agent at 100 frames a second writes in two minutes, and what is read in one turn.
_TAIL_BYTES = 4 << 20
_TURN_BYTES = 1 << 20
_LONGEST_LINE = 1 << 20
# A thousand logs of a fleet that has run for hours must not be in memory at once.
_MOST_EVENTS = 50_000
_LOOK_FOR_NEW_S = 2.0
# Two clocks of one host since one boot: wall time and monotonic time then differ by the same.
_SAME_BOOT_S = 2.0


@dataclass(slots=True)
class _Log:
    """A file that is being followed."""

    path: Path
    file: IO[bytes]
    inode: int
    at: int = 0
    rest: bytes = b""
    skipping: bool = False
    shift_s: float = float("inf")
    spoilt: int = 0
    of_this_host: bool | None = None

    def restart(self) -> None:
        """Read the file from its beginning."""
        self.at, self.rest, self.skipping, self.shift_s = 0, b"", False, float("inf")


@dataclass(frozen=True, slots=True)
class Grown:
    """What a log has got since it was last looked at.

    Attributes:
        path: The file.
        events: The events, in their order.
        shift_s: Seconds from the writer's clock to the monotonic clock of this process.
        spoilt: Lines so far that are no event.
    """

    path: Path
    events: list[Event]
    shift_s: float
    spoilt: int


class Follower:
    """Follows files, and every `*.jsonl` in folders and below.

    Args:
        paths: Files and folders; a file need not be there yet.

    Raises:
        InputError: If neither a path nor its folder is there.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.exists() and not path.absolute().parent.is_dir():
                raise InputError(
                    f"{path}: no such file or folder; give event logs, or the folder they are in"
                )
        self._paths = tuple(paths)
        self._logs: dict[Path, _Log] = {}
        self._looked_s = float("-inf")
        self._of_this_host: set[Path] = set()
        self._decode = msgspec.json.Decoder(Event).decode

    def grown(self, now_s: float) -> Iterator[Grown]:
        """Yield what has come since the last call; `now_s` is of this process's monotonic clock.

        At most so many events are read at once; the logs that are left come first the next time.
        """
        if now_s - self._looked_s >= _LOOK_FOR_NEW_S:
            self._looked_s = now_s
            self._look_for_new()
        read = 0
        for _ in range(len(self._logs)):
            if read >= _MOST_EVENTS:
                return
            path = next(iter(self._logs))
            log = self._logs.pop(path)
            self._logs[path] = log  # last in line from now on
            try:
                found = os.stat(log.path)
                if found.st_ino == log.inode and found.st_size < log.at:
                    log.restart()
                grown = self._read(log, now_s)
                if found.st_ino != log.inode:  # rotated: what was left of the old file has just been read
                    log.file.close()
                    log.file, log.inode = log.path.open("rb"), found.st_ino
                    log.restart()
            except OSError:
                # Gone for good, or about to be there again: the next look finds it.
                log.file.close()
                del self._logs[log.path]
                continue
            if grown is not None:
                read += len(grown.events)
                yield grown

    def close(self) -> None:
        """Close every file."""
        for log in self._logs.values():
            log.file.close()
        self._logs.clear()

    def _look_for_new(self) -> None:
        for path in self._paths:
            found = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
            for file in found:
                if file not in self._logs and file.is_file():
                    self._open(file)

    def _open(self, path: Path) -> None:
        try:
            file = path.open("rb")
            self._logs[path] = _Log(path=path, file=file, inode=os.fstat(file.fileno()).st_ino)
        except OSError:
            return

    def _read(self, log: _Log, now_s: float) -> Grown | None:
        state = os.fstat(log.file.fileno())
        if state.st_size <= log.at:
            return None
        events = self._first(log, state.st_size) if log.at == 0 else []
        log.file.seek(log.at)
        data = log.file.read(_TURN_BYTES)
        log.at += len(data)
        *lines, log.rest = (log.rest + data).split(b"\n")
        if log.skipping and lines:
            lines, log.skipping = lines[1:], False
        if len(log.rest) > _LONGEST_LINE:
            log.rest, log.skipping = b"", True
            log.spoilt += 1
        events += self._decoded(log, lines)
        if not events:
            return None
        self._recognise(log, events)
        if log.of_this_host or (log.of_this_host is None and log.path.parent in self._of_this_host):
            return Grown(log.path, events, 0.0, log.spoilt)
        # A file is written at once: what it got last happened when it was last written, or before.
        if log.at >= state.st_size:
            age_s = max(0.0, time.time() - state.st_mtime)
            log.shift_s = min(log.shift_s, now_s - age_s - max(event.at_s for event in events))
        shift_s = log.shift_s if log.shift_s < float("inf") else now_s - max(event.at_s for event in events)
        return Grown(log.path, events, shift_s, log.spoilt)

    def _recognise(self, log: _Log, events: Sequence[Event]) -> None:
        """Find out whether the writer's clock is ours; then a link's log beside it is ours too."""
        for event in events:
            if type(event) is RunEvent:
                ahead_s = (event.unix_s - event.at_s) - (time.time() - time.monotonic())
                log.of_this_host = abs(ahead_s) < _SAME_BOOT_S
                if log.of_this_host:
                    self._of_this_host.add(log.path.parent)

    def _first(self, log: _Log, size: int) -> list[Event]:
        """Read the first line of a long log, and leave out what lies before its last two minutes."""
        if size <= _TAIL_BYTES:
            return []
        head = log.file.read(_FIRST_LINE_BYTES).split(b"\n")[0]
        log.at, log.skipping = size - _TAIL_BYTES, True
        return self._decoded(log, [head])

    def _decoded(self, log: _Log, lines: Sequence[bytes]) -> list[Event]:
        events = []
        for line in lines:
            if line:
                try:
                    events.append(self._decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    log.spoilt += 1
        return events
