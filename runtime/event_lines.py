"""Whole lines of a log, a block at a time: memory does not grow with the file.

Decides where a log ends that was cut off: a machine that lost its power may leave half a line, or a tail of
zero bytes that were reserved and never written. Refuses to know what a line says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from isthmus.runtime.errors import ArtifactError

_Event = TypeVar("_Event")

BLOCK_BYTES = 1 << 20
# An event is a few hundred bytes: what goes on for so long without an end of line is no log.
LONGEST_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Lines:
    """Some consecutive lines.

    Attributes:
        first: The number of the first, from 1.
        start: Where it begins in the file, bytes.
        data: The lines, each with its end, except that of a torn one.
        torn: The only line here is the file's last and has no end: it may have been cut off anywhere.
    """

    first: int
    start: int
    data: bytes
    torn: bool = False


def read_lines(
    file: Path, *, start: int = 0, first: int = 1, end: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[Lines]:
    """Yield the lines of `file` in blocks of about `block_bytes`.

    Args:
        file: The log; it may grow meanwhile.
        start: The byte to begin with, where a line begins.
        first: The number of that line.
        end: The byte to stop before.
        block_bytes: How much is read at once.

    Raises:
        ArtifactError: If it cannot be read, or a line is too long to be an event.
    """
    rest = b""
    for block in _blocks(file, start, end, block_bytes):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            if len(rest) > LONGEST_LINE_BYTES:
                raise ArtifactError(
                    f"{file}:{first}: a line of more than {LONGEST_LINE_BYTES >> 20} MiB is no event; give "
                    "an event log of 'isthmus agent'"
                )
            continue
        data = rest + block[:cut]
        yield Lines(first, start, data)
        first, start, rest = first + data.count(b"\n"), start + len(data), block[cut:]
    if rest:
        yield Lines(first, start, rest, torn=True)


def _blocks(file: Path, start: int, end: int | None, block_bytes: int) -> Iterator[bytes]:
    """Yield what was written, without a tail of zero bytes."""
    left = float("inf") if end is None else end - start
    hole = False
    try:
        with file.open("rb", buffering=0) as source:
            source.seek(start)
            while left > 0 and (block := source.read(int(min(block_bytes, left)))):
                left -= len(block)
                written = block.rstrip(b"\0") if block.endswith(b"\0") else block
                if not written:
                    hole = True
                    continue
                # Zero bytes with something behind them are no tail: they spoil their line, which is told.
                yield b"\0" + written if hole else written
                hole = len(written) < len(block)
    except OSError as error:
        raise ArtifactError(
            f"{file}: {error.strerror or error}; give an event log of 'isthmus agent'"
        ) from None


def decode_lines(decoder: msgspec.json.Decoder[_Event], lines: Lines, file: Path) -> list[_Event]:
    """Return the events of `lines`; a torn line counts if it is whole all the same.

    Raises:
        ArtifactError: If a line is no event; the message gives its number.
    """
    try:
        return decoder.decode_lines(lines.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if lines.torn:
            return []
        return _one_by_one(decoder, lines, file)


def _one_by_one(decoder: msgspec.json.Decoder[_Event], lines: Lines, file: Path) -> list[_Event]:
    events = []
    for number, line in enumerate(lines.data.split(b"\n"), start=lines.first):
        if not line:
            continue
        try:
            events.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file}:{number}: not an event: {error}") from None
    return events
