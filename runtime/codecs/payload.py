"""The payload: a latent's bytes with a header that says how to read them.

Decides the header, and refuses every payload that it cannot verify before anything is allocated for it.
Little-endian:

```
offset bytes
     0     2  magic "iS"
     2     1  version of this header, 1
     3     1  codec: id in the low four bits, version of its body in the high four
     4     1  flags, 0
     5     1  width index
     6     2  channels, the leading ones of the latent
     8     8  table id: first 8 bytes of the tables' SHA-256; zeros for a codec without tables
    16     2  latent height
    18     2  latent width
    20     4  body length
    24     4  CRC-32 (zlib's) of the 24 bytes above and the body
    28        body
```

A latent has one payload for a codec version (LZ4 excepted, see there), and the CRC sees any change of a
single bit.
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
from isthmus.runtime.codecs.rans import RansCodec
from isthmus.runtime.codecs.raw import RawCodec
from isthmus.runtime.codecs.tables import FrequencyTables
from isthmus.runtime.errors import InputError, PayloadError

MAGIC: Final = b"iS"
VERSION: Final = 1
NO_TABLES: Final = bytes(8)

_FIELDS: Final = struct.Struct("<2sBBBBH8sHHI")
_CHECKSUM: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size

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
        table_id: 8 bytes, zeros for a codec without tables.
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
        codec = CODECS[self.codec]
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            codec.version << 4 | codec.codec_id,
            0,
            self.width_index,
            self.channels,
            self.table_id,
            self.height,
            self.width,
            len(self.body),
        )
        return b"".join((fields, _CHECKSUM.pack(zlib.crc32(self.body, zlib.crc32(fields))), self.body))


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
        or not 0 < min(latent_chw.shape) <= max(latent_chw.shape) < 1 << 16
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
        table_id=tables.digest if coder.needs_tables and tables is not None else NO_TABLES,
        body=body,
    ).to_bytes()


def parse_payload(data: bytes) -> Payload:
    """Check the framing of a payload and return its parts; nothing is decoded.

    Raises:
        PayloadError: If it is truncated, altered, of another version, or contradicts itself.
    """
    if len(data) < HEADER_BYTES:
        raise PayloadError(f"payload: {len(data)} bytes, but a header has {HEADER_BYTES}")
    magic, version, codec_byte, flags, width_index, channels, table_id, height, width, length = (
        _FIELDS.unpack_from(data)
    )
    if magic != MAGIC:
        raise PayloadError(
            f"payload: starts with {magic.hex()}, not {MAGIC.hex()}; this is no Isthmus payload"
        )
    if version != VERSION:
        raise PayloadError(f"payload: version {version}, this Isthmus reads {VERSION}")
    if length != len(data) - HEADER_BYTES:
        kind = "truncated" if length > len(data) - HEADER_BYTES else "has trailing bytes"
        raise PayloadError(
            f"payload: {kind}: {len(data) - HEADER_BYTES} bytes after the header, declared {length}"
        )
    body = data[HEADER_BYTES:]
    (declared,) = _CHECKSUM.unpack_from(data, _FIELDS.size)
    actual = zlib.crc32(body, zlib.crc32(data[: _FIELDS.size]))
    if actual != declared:
        raise PayloadError(
            f"payload: CRC-32 is {actual:08x}, declared {declared:08x}: it was altered on the way"
        )
    if flags != 0:
        raise PayloadError(f"payload: flags {flags:#04x}, this Isthmus knows none")
    codec = _BY_ID.get(codec_byte & 0xF)
    if codec is None:
        raise PayloadError(f"payload: codec id {codec_byte & 0xF} is unknown; known are {', '.join(CODECS)}")
    if codec_byte >> 4 != codec.version:
        raise PayloadError(
            f"payload: codec {codec.name} version {codec_byte >> 4}, this Isthmus reads {codec.version}"
        )
    if 0 in (channels, height, width):
        raise PayloadError(f"payload: latent of {channels}×{height}×{width} is empty")
    if not codec.needs_tables and table_id != NO_TABLES:
        raise PayloadError(f"payload: codec {codec.name} has no tables, but the table id is {table_id.hex()}")
    return Payload(
        codec=codec.name,
        width_index=width_index,
        channels=channels,
        height=height,
        width=width,
        table_id=table_id,
        body=body,
    )


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
    payload = parse_payload(data)
    shape = (payload.channels, payload.height, payload.width)
    if expect is not None and (payload.channels > expect[0] or shape[1:] != expect[1:]):
        raise PayloadError(f"payload: latent {_show(shape)} does not fit this model's {_show(expect)}")
    if payload.latent_bytes > max_latent_bytes:
        raise PayloadError(
            f"payload: latent {_show(shape)} is {payload.latent_bytes} bytes, the cap is {max_latent_bytes}"
        )
    codec = CODECS[payload.codec]
    if codec.needs_tables and (tables is None or payload.table_id != tables.digest):
        here = "there are none here" if tables is None else f"the tables here are {tables.table_id}"
        raise PayloadError(
            f"payload: table id {payload.table_id.hex()} is unknown, {here}; load one bundle on both ends"
        )
    if tables is not None and payload.width_index >= len(tables.channels):
        raise PayloadError(
            f"payload: width index {payload.width_index} is not in tables of {len(tables.channels)} widths"
        )
    return DecodedPayload(payload.width_index, codec.decode(payload.body, shape, tables, payload.width_index))


def _show(shape: tuple[int, int, int]) -> str:
    return "×".join(str(size) for size in shape)
