"""Numbers of a payload in as few bytes as they need: LEB128, in its shortest form.

Seven bits a byte, low ones first, the high bit set on all but the last byte; at most `MAX_NUMBER`.
"""

from __future__ import annotations

from typing import Final

from isthmus.runtime.errors import PayloadError

MAX_NUMBER: Final = 0xFFFF


def number(value: int) -> bytes:
    """Return the bytes of `value`, at least 0."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at byte `at` of a payload, and where the next byte is.

    Raises:
        PayloadError: If it is cut short, too large or not in its shortest form.
    """
    value = shift = 0
    for group in data[at : at + 3]:
        value |= (group & 0x7F) << shift
        shift += 7
        if group < 0x80:
            if value > MAX_NUMBER or (group == 0 and shift > 7):
                raise PayloadError(
                    f"payload: the number {value} at byte {at} is too large or not in its shortest form"
                )
            return value, at + shift // 7
    raise PayloadError(f"payload: the number at byte {at} is cut short or above {MAX_NUMBER}")
