"""The payload's header: every way it can be wrong is one exact error, before anything is allocated."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable

import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.runtime.codecs import (
    CODECS,
    HEADER_BYTES,
    FrequencyTables,
    Payload,
    decode_payload,
    encode_payload,
    parse_payload,
)
from isthmus.runtime.errors import InputError, PayloadError

CAP = 1 << 16


@pytest.fixture(scope="module")
def good(latent_chw: NDArray[np.uint8], tables: FrequencyTables) -> bytes:
    return encode_payload(latent_chw, codec="rans", width_index=1, tables=tables)


def reseal(data: bytes | bytearray) -> bytes:
    """Return `data` with the checksum an attacker would compute."""
    crc = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[: HEADER_BYTES - 4]))
    return bytes(data[: HEADER_BYTES - 4]) + struct.pack("<I", crc) + bytes(data[HEADER_BYTES:])


def patched(offset: int, new: bytes) -> Callable[[bytes], bytes]:
    def patch(data: bytes) -> bytes:
        return reseal(data[:offset] + new + data[offset + len(new) :])

    return patch


def test_header_is_28_bytes_in_the_documented_places(good: bytes, tables: FrequencyTables) -> None:
    assert HEADER_BYTES == 28
    assert good[:8] == b"iS" + bytes([1, 0x12, 0, 1, 6, 0])
    assert good[8:16] == bytes.fromhex(tables.table_id)
    assert struct.unpack_from("<HHI", good, 16) == (5, 7, len(good) - 28)
    assert struct.unpack_from("<I", good, 24) == (zlib.crc32(good[28:], zlib.crc32(good[:24])),)


def test_parse_gives_back_what_to_bytes_took(good: bytes, tables: FrequencyTables) -> None:
    payload = parse_payload(good)
    assert (payload.codec, payload.width_index) == ("rans", 1)
    assert (payload.channels, payload.height, payload.width, payload.latent_bytes) == (6, 5, 7, 210)
    assert payload.table_id.hex() == tables.table_id
    assert payload.to_bytes() == good


REFUSED = {
    "empty": (lambda d: b"", "payload: 0 bytes, but a header has 28"),
    "short": (lambda d: d[:27], "payload: 27 bytes, but a header has 28"),
    "magic": (
        lambda d: b"PK" + d[2:],
        "payload: starts with 504b, not 6953; this is no Isthmus payload",
    ),
    "version": (patched(2, b"\x02"), "payload: version 2, this Isthmus reads 1"),
    "codec": (
        patched(3, b"\x1f"),
        "payload: codec id 15 is unknown; known are raw, rans, bitshuffle-lz4",
    ),
    "codec version": (patched(3, b"\x22"), "payload: codec rans version 2, this Isthmus reads 1"),
    "flags": (patched(4, b"\x80"), "payload: flags 0x80, this Isthmus knows none"),
    "width index": (patched(5, b"\x02"), "payload: width index 2 is not in tables of 2 widths"),
    "no channels": (patched(6, b"\0\0"), "payload: latent of 0×5×7 is empty"),
    "no rows": (patched(16, b"\0\0"), "payload: latent of 6×0×7 is empty"),
    "too many channels": (patched(6, b"\x07\0"), "payload: latent 7×5×7 does not fit this model's 6×5×7"),
    "other plane": (patched(16, b"\x06\0"), "payload: latent 6×6×7 does not fit this model's 6×5×7"),
    "table id": (
        patched(8, bytes(range(8))),
        "payload: table id 0001020304050607 is unknown, the tables here are {table_id}; "
        "load one bundle on both ends",
    ),
    "table id of raw": (
        patched(3, b"\x11"),
        "payload: codec raw has no tables, but the table id is {table_id}",
    ),
    "truncated": (
        lambda d: d[:-1],
        "payload: truncated: {body_less_one} bytes after the header, declared {body}",
    ),
    "trailing": (
        lambda d: d + b"\0",
        "payload: has trailing bytes: {body_and_one} bytes after the header, declared {body}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_defect_has_its_exact_error(case: str, good: bytes, tables: FrequencyTables) -> None:
    change, message = REFUSED[case]
    body = len(good) - HEADER_BYTES
    expected = message.format(
        table_id=tables.table_id, body=body, body_less_one=body - 1, body_and_one=body + 1
    )
    with pytest.raises(PayloadError) as caught:
        decode_payload(change(good), tables=tables, max_latent_bytes=CAP, expect=(6, 5, 7))
    assert str(caught.value) == expected


def test_a_changed_byte_is_a_checksum_error(good: bytes, tables: FrequencyTables) -> None:
    altered = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    with pytest.raises(
        PayloadError, match=r"^payload: CRC-32 is [0-9a-f]{8}, declared [0-9a-f]{8}: it was altered"
    ):
        decode_payload(altered, tables=tables, max_latent_bytes=CAP)


def test_without_tables_rans_is_refused_and_raw_is_not(
    good: bytes, latent_chw: NDArray[np.uint8], tables: FrequencyTables
) -> None:
    with pytest.raises(PayloadError, match=r"is unknown, there are none here; load one bundle on both ends$"):
        decode_payload(good, tables=None, max_latent_bytes=CAP)
    raw = encode_payload(latent_chw, codec="raw", width_index=0, tables=tables)
    assert (decode_payload(raw, tables=None, max_latent_bytes=CAP).latent_chw == latent_chw).all()


def test_more_channels_than_the_tables_of_a_narrow_width(good: bytes, tables: FrequencyTables) -> None:
    with pytest.raises(PayloadError, match=r"6 channels, but tables for 4$"):
        decode_payload(patched(5, b"\0")(good), tables=tables, max_latent_bytes=CAP)


def test_the_cap_is_the_decoded_size(good: bytes, tables: FrequencyTables) -> None:
    decode_payload(good, tables=tables, max_latent_bytes=210)
    with pytest.raises(PayloadError, match=r"^payload: latent 6×5×7 is 210 bytes, the cap is 209$"):
        decode_payload(good, tables=tables, max_latent_bytes=209)


@pytest.mark.parametrize("codec_byte", [0x11, 0x12, 0x13])
def test_a_huge_latent_is_refused_before_it_is_allocated(codec_byte: int, tables: FrequencyTables) -> None:
    table_id = tables.digest if codec_byte == 0x12 else bytes(8)
    header = struct.pack("<2sBBBBH8sHHI", b"iS", 1, codec_byte, 0, 0, 65535, table_id, 65535, 65535, 3)
    hostile = reseal(header + bytes(4) + b"\x1f\xff\xff")
    assert peak_of_refusal(hostile, tables, cap=1 << 20) < 16_384


def test_a_body_that_expands_allocates_no_more_than_declared() -> None:
    body = lz4.block.compress(bytes(16 << 20), store_size=False)
    bomb = Payload(
        codec="bitshuffle-lz4", width_index=0, channels=1, height=8, width=8, table_id=bytes(8), body=body
    ).to_bytes()
    assert peak_of_refusal(bomb, None, cap=1 << 20) < len(bomb) + 16_384


def peak_of_refusal(data: bytes, tables: FrequencyTables | None, *, cap: int) -> int:
    """Return the peak of bytes allocated while `data` is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError):
            decode_payload(data, tables=tables, max_latent_bytes=cap)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_payload(noise, tables=None, max_latent_bytes=CAP)


@given(header=st.binary(min_size=21, max_size=21), body=st.binary(max_size=40))
def test_hostile_headers_are_refused_or_decode_to_their_shape(
    tables: FrequencyTables, header: bytes, body: bytes
) -> None:
    # Magic, version and length are right, the checksum too: everything behind them must hold.
    start = b"iS\x01" + header[:13] + header[13:17] + struct.pack("<I", len(body))
    data = reseal(start[:8] + tables.digest + start[16:] + bytes(4) + body)
    decoded, complaint = None, ""
    try:
        decoded = decode_payload(data, tables=tables, max_latent_bytes=4096)
    except PayloadError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert complaint or (decoded is not None and 0 < decoded.latent_chw.size <= 4096)


@pytest.mark.parametrize(
    ("latent", "codec", "width_index", "message"),
    [
        (
            np.zeros((1, 2, 2), np.uint8),
            "zip",
            0,
            "codec 'zip' is unknown; use one of raw, rans, bitshuffle-lz4",
        ),
        (
            np.zeros((0, 2, 2), np.uint8),
            "raw",
            0,
            "latent is uint8 (0, 2, 2); a payload takes uint8 [c, H, W]",
        ),
        (np.zeros((1, 2, 2), np.int8), "raw", 0, "latent is int8 (1, 2, 2); a payload takes uint8 [c, H, W]"),
        (np.zeros((2, 2), np.uint8), "raw", 0, "latent is uint8 (2, 2); a payload takes uint8 [c, H, W]"),
        (np.zeros((1, 1, 65536), np.uint8), "raw", 0, "latent is uint8 (1, 1, 65536); a payload takes"),
        (np.zeros((1, 2, 2), np.uint8), "raw", 256, "width index 256 does not fit a payload"),
        (np.zeros((1, 2, 2), np.uint8), "rans", 2, "rans: width index 2 is not in tables of 2 widths"),
        (np.zeros((5, 2, 2), np.uint8), "rans", 0, "rans: 5 channels, but tables for 4"),
    ],
)
def test_what_cannot_be_encoded_is_an_input_error(
    latent: NDArray[np.uint8], codec: str, width_index: int, message: str, tables: FrequencyTables
) -> None:
    with pytest.raises(InputError) as caught:
        encode_payload(latent, codec=codec, width_index=width_index, tables=tables)
    assert str(caught.value).startswith(message)


def test_rans_without_tables_is_an_input_error(latent_chw: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"^rans: frequency tables are needed"):
        encode_payload(latent_chw, codec="rans", width_index=0, tables=None)


def test_codec_names_and_numbers_never_change() -> None:
    assert {name: (codec.codec_id, codec.version) for name, codec in CODECS.items()} == {
        "raw": (1, 1),
        "rans": (2, 1),
        "bitshuffle-lz4": (3, 1),
    }
