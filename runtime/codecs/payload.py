"""The payload: a latent's bytes with a few more that say how to read them.

Decides the frame around a codec's body, and refuses every payload that it cannot verify before anything is
allocated for it. Numbers are as `leb128` says.

```
bytes
 1     0xB2: magic 0xB in the high four bits, version 2 of the payload in the low four
 1     codec id in the low four bits, width index in the high four; 15 there: the width index follows
 0, 1-2  width index, as a number of at least 15
 1-3   channels, the leading ones of the latent
 1-3   latent height
 1-3   latent width
 0, 1  first byte of the table id, for a codec with tables
       body, the codec's; the version of the payload is that of every codec's body
 4     CRC-32 (zlib's), little-endian, of all above and the whole table id, which is not sent
```

That is 10 bytes around a body of `rans` and 9 around others, if no number passes 127. The table id is the
first 8 bytes of the SHA-256 of the tables. The one byte that is sent names the mistake of two ends with
different bundles in 255 of 256 cases; the checksum catches the last one, and then names both possible
reasons. The body's length is what the message leaves: whatever carries a payload delimits it.

A latent has one payload (LZ4 excepted, see there), and the CRC sees any change of a single bit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.bitshuffle_lz4 import BitshuffleLz4Codec
from isthmus.runtime.codecs.codec import Codec
from isthmus.runtime.codecs.leb128 import MAX_NUMBER, number, read_number
from isthmus.runtime.codecs.rans import RansCodec
from isthmus.runtime.codecs.raw import RawCodec
from isthmus.runtime.codecs.tables import FrequencyTables
from isthmus.runtime.errors import InputError, PayloadError

VERSION: Final = 2

_MAGIC: Final = 0xB0
_OLD_MAGIC: Final = b"iS\x01"  # what version 1 started with
_LONG_WIDTH: Final = 15
_CHECKSUM: Final = struct.Struct("<I")
_SHORTEST: Final = 2 + 3 + 1 + _CHECKSUM.size  # no codec has an empty body without a byte of the table id

_ALL: tuple[Codec, ...] = (RawCodec(), RansCodec(), BitshuffleLz4Codec())
CODECS: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in _ALL})
_BY_ID: Final = {codec.codec_id: codec for codec in _ALL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A parsed payload whose checksum is right; its body is not decoded yet.

    Attributes:
        codec: Name of the codec.
        width_index: Which head made the latent.
        channels, height, width: Shape of the latent that was sent.
        table_id: 8 bytes; empty for a codec without tables.
        body: What the codec made.
    """

    codec: str
    width_index: int
    channels: int
    height: int
    width: int
    table_id: bytes
    body: bytes

    @property
    def latent_bytes(self) -> int:
        """Bytes of the decoded latent."""
        return self.channels * self.height * self.width

    def to_bytes(self) -> bytes:
        """Return the payload as it goes on the wire."""
        kind = min(self.width_index, _LONG_WIDTH) << 4 | CODECS[self.codec].codec_id
        frame = bytearray((_MAGIC | VERSION, kind))
        if self.width_index >= _LONG_WIDTH:
            frame += number(self.width_index)
        for size in (self.channels, self.height, self.width):
            frame += number(size)
        frame += self.table_id[:1]
        frame += self.body
        frame += _CHECKSUM.pack(zlib.crc32(self.table_id, zlib.crc32(frame)))
        return bytes(frame)


@dataclass(frozen=True, slots=True)
class DecodedPayload:
    """A decoded payload.

    Attributes:
        width_index: Which head made the latent.
        latent_chw: uint8 [c, H, W], the c leading channels that were sent.
    """

    width_index: int
    latent_chw: NDArray[np.uint8]


def encode_payload(
    latent_chw: NDArray[np.uint8], *, codec: str, width_index: int, tables: FrequencyTables | None
) -> bytes:
    """Return the payload of a latent.

    Args:
        latent_chw: uint8 [c, H, W], already cut to the c leading channels that are sent.
        codec: A name in `CODECS`.
        width_index: Which head made the latent.
        tables: The bundle's tables; only codecs that need them look.

    Raises:
        InputError: If the codec is unknown, the latent is empty, too large or not uint8 [c, H, W], or the
            tables lack its width or channels.
    """
    coder = CODECS.get(codec)
    if coder is None:
        raise InputError(f"codec {codec!r} is unknown; use one of {', '.join(CODECS)}")
    if (
        latent_chw.dtype != np.uint8
        or latent_chw.ndim != 3
        or not 0 < min(latent_chw.shape) <= max(latent_chw.shape) <= MAX_NUMBER
    ):
        raise InputError(
            f"latent is {latent_chw.dtype} {latent_chw.shape}; "
            "a payload takes uint8 [c, H, W] of 1 to 65535 each"
        )
    if not 0 <= width_index <= 0xFF:
        raise InputError(f"width index {width_index} does not fit a payload; use 0 to 255")
    body = coder.encode(latent_chw, tables, width_index)
    channels, height, width = latent_chw.shape
    return Payload(
        codec=codec,
        width_index=width_index,
        channels=channels,
        height=height,
        width=width,
        table_id=tables.digest if coder.needs_tables and tables is not None else b"",
        body=body,
    ).to_bytes()


def parse_payload(data: bytes, *, tables: FrequencyTables | None) -> Payload:
    """Check the framing of a payload and return its parts; nothing is decoded.

    Args:
        data: The payload.
        tables: The bundle's tables, whose id the checksum covers. Without them only payloads of codecs that
            need none can be read.

    Raises:
        PayloadError: If it is truncated, altered, of another version, made with other tables, or contradicts
            itself.
    """
    codec, width_index, shape, table_id, body = _parts(data, tables)
    return Payload(
        codec=codec.name,
        width_index=width_index,
        channels=shape[0],
        height=shape[1],
        width=shape[2],
        table_id=table_id,
        body=body,
    )


def _parts(
    data: bytes, tables: FrequencyTables | None
) -> tuple[Codec, int, tuple[int, int, int], bytes, bytes]:
    """Return codec, width index, shape, table id and body; see `parse_payload`."""
    codec, width_index, shape, at = _open(data)
    table_id = b""
    if codec.needs_tables:
        if tables is None:
            raise PayloadError(
                f"payload: codec {codec.name} needs tables, there are none here; load one bundle on both ends"
            )
        table_id = tables.digest
        if data[at] != table_id[0]:
            raise PayloadError(
                f"payload: made with tables {data[at]:02x}…, the tables here are {tables.table_id}; "
                "load one bundle on both ends"
            )
        at += 1
    end = len(data) - _CHECKSUM.size
    (declared,) = _CHECKSUM.unpack_from(data, end)
    actual = zlib.crc32(table_id, zlib.crc32(memoryview(data)[:end]))
    if actual != declared:
        other = f", or made with other tables than {table_id.hex()}" if table_id else ""
        raise PayloadError(
            f"payload: CRC-32 is {actual:08x}, declared {declared:08x}: it was altered or cut short on the "
            f"way{other}"
        )
    if 0 in shape:
        raise PayloadError(f"payload: latent {_show(shape)} is empty")
    return codec, width_index, shape, table_id, data[at:end]


def decode_payload(
    data: bytes,
    *,
    tables: FrequencyTables | None,
    max_latent_bytes: int,
    expect: tuple[int, int, int] | None = None,
) -> DecodedPayload:
    """Return the latent of a payload from a peer.

    Args:
        data: The payload.
        tables: The bundle's tables. Without them only codecs that need none can be decoded.
        max_latent_bytes: Refuse a latent that decodes to more.
        expect: Channels of the full latent, height, width; fewer channels are a prefix, more are refused.

    Raises:
        PayloadError: If anything about it is not as it must be.
    """
    codec, width_index, shape, _, body = _parts(data, tables)
    if expect is not None and (shape[0] > expect[0] or shape[1:] != expect[1:]):
        raise PayloadError(f"payload: latent {_show(shape)} does not fit this model's {_show(expect)}")
    latent_bytes = shape[0] * shape[1] * shape[2]
    if latent_bytes > max_latent_bytes:
        raise PayloadError(
            f"payload: latent {_show(shape)} is {latent_bytes} bytes, the cap is {max_latent_bytes}"
        )
    if tables is not None and width_index >= len(tables.channels):
        raise PayloadError(
            f"payload: width index {width_index} is not in tables of {len(tables.channels)} widths"
        )
    return DecodedPayload(width_index, codec.decode(body, shape, tables, width_index))


def _open(data: bytes) -> tuple[Codec, int, tuple[int, int, int], int]:
    """Return codec, width index, shape, and where the rest begins; at least 5 bytes follow there."""
    if data[:3] == _OLD_MAGIC:
        raise PayloadError(
            f"payload: version 1, this Isthmus reads {VERSION}; update the end that sent it and export the "
            "bundle again"
        )
    if len(data) < _SHORTEST:
        raise PayloadError(f"payload: {len(data)} bytes, the shortest has {_SHORTEST}")
    if data[0] & 0xF0 != _MAGIC:
        raise PayloadError(f"payload: starts with {data[:2].hex()}; this is no Isthmus payload")
    if data[0] & 0x0F != VERSION:
        raise PayloadError(f"payload: version {data[0] & 0x0F}, this Isthmus reads {VERSION}")
    codec = _BY_ID.get(data[1] & 0xF)
    if codec is None:
        raise PayloadError(f"payload: codec id {data[1] & 0xF} is unknown; known are {', '.join(CODECS)}")
    width_index, at = data[1] >> 4, 2
    if width_index == _LONG_WIDTH:
        width_index, at = read_number(data, at)
        if width_index < _LONG_WIDTH:
            raise PayloadError(f"payload: width index {width_index} is not in its shortest form")
    channels, height, width = data[at : at + 3]
    if (channels | height | width) < 0x80:  # a byte each, as for most latents
        at += 3
    else:
        channels, at = read_number(data, at)
        height, at = read_number(data, at)
        width, at = read_number(data, at)
    if len(data) - at < 1 + _CHECKSUM.size:
        raise PayloadError(f"payload: {len(data)} bytes, cut short before its body")
    return codec, width_index, (channels, height, width), at


def _show(shape: tuple[int, int, int]) -> str:
    return "×".join(str(size) for size in shape)
