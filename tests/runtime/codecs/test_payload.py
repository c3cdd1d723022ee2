"""The payload's header: every way it can be wrong is one exact error, before anything is allocated."""

from __future__ import annotations

import math
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


def reseal(data: bytes | bytearray, table_id: bytes) -> bytes:
    """Return `data` with the checksum an attacker would compute."""
    return bytes(data[:-4]) + struct.pack("<I", zlib.crc32(table_id, zlib.crc32(data[:-4])))


def patched(offset: int, new: bytes, *, gone: int | None = None) -> Callable[[bytes, bytes], bytes]:
    """Return what replaces `gone` bytes (by default as many as there are new ones) and seals again."""

    def patch(data: bytes, table_id: bytes) -> bytes:
        end = offset + (len(new) if gone is None else gone)
        return reseal(data[:offset] + new + data[end:], table_id)

    return patch


def test_the_bytes_are_in_the_documented_places(good: bytes, tables: FrequencyTables) -> None:
    assert good[:6] == bytes([0xB2, 0x12, 6, 5, 7, tables.digest[0]])
    assert good[-4:] == struct.pack("<I", zlib.crc32(tables.digest, zlib.crc32(good[:-4])))
    assert good[6:-4] == parse_payload(good, tables=tables).body


def test_a_codec_without_tables_sends_no_table_id(latent_chw: NDArray[np.uint8]) -> None:
    raw = encode_payload(latent_chw, codec="raw", width_index=3, tables=None)
    assert raw[:5] == bytes([0xB2, 0x31, 6, 5, 7])
    assert raw[5:] == latent_chw.tobytes() + struct.pack("<I", zlib.crc32(raw[:-4]))


def test_large_numbers_take_more_bytes() -> None:
    latent = np.zeros((1, 200, 1), np.uint8)
    wide = encode_payload(latent, codec="raw", width_index=255, tables=None)
    assert wide[:8] == bytes([0xB2, 0xF1, 0xFF, 0x01, 1, 200 & 0x7F | 0x80, 1, 1])
    assert encode_payload(latent, codec="raw", width_index=15, tables=None)[:3] == bytes([0xB2, 0xF1, 15])
    assert encode_payload(latent, codec="raw", width_index=14, tables=None)[:3] == bytes([0xB2, 0xE1, 1])


@given(
    width_index=st.integers(0, 255),
    sizes=st.tuples(*[st.integers(1, 65535)] * 3),
    body=st.binary(max_size=8),
    codec=st.sampled_from(sorted(CODECS)),
)
def test_parse_gives_back_what_to_bytes_took(
    tables: FrequencyTables, width_index: int, sizes: tuple[int, int, int], body: bytes, codec: str
) -> None:
    needs = CODECS[codec].needs_tables
    payload = Payload(
        codec=codec,
        width_index=width_index,
        channels=sizes[0],
        height=sizes[1],
        width=sizes[2],
        table_id=tables.digest if needs else b"",
        body=body if needs or body else b"\0",
    )
    assert parse_payload(payload.to_bytes(), tables=tables) == payload
    assert payload.latent_bytes == math.prod(sizes)


REFUSED = {
    "empty": (lambda d, i: b"", "payload: 0 bytes, the shortest has 10"),
    "short": (lambda d, i: d[:9], "payload: 9 bytes, the shortest has 10"),
    "magic": (lambda d, i: b"PK" + d[2:], "payload: starts with 504b; this is no Isthmus payload"),
    "the first version": (
        lambda d, i: b"iS\x01\x12" + bytes(40),
        "payload: version 1, this Isthmus reads 2; update the end that sent it and export the bundle again",
    ),
    "version": (patched(0, b"\xb3"), "payload: version 3, this Isthmus reads 2"),
    "codec": (
        patched(1, b"\x1f"),
        "payload: codec id 15 is unknown; known are raw, rans, bitshuffle-lz4",
    ),
    "width index": (patched(1, b"\x22"), "payload: width index 2 is not in tables of 2 widths"),
    "short width index in the long form": (
        patched(1, b"\xf2\x01", gone=1),
        "payload: width index 1 is not in its shortest form",
    ),
    "no channels": (patched(2, b"\0"), "payload: latent 0×5×7 is empty"),
    "no rows": (patched(3, b"\0"), "payload: latent 6×0×7 is empty"),
    "number in two spellings": (
        patched(2, b"\x86\0", gone=1),
        "payload: the number 6 at byte 2 is too large or not in its shortest form",
    ),
    "number above the limit": (
        patched(2, b"\x80\x80\x04", gone=1),
        "payload: the number 65536 at byte 2 is too large or not in its shortest form",
    ),
    "number without an end": (
        patched(2, b"\xff\xff\xff\x01", gone=1),
        "payload: the number at byte 2 is cut short or above 65535",
    ),
    "no room for a body": (
        lambda d, i: d[:2] + b"\xff\xff\x03\x05\x07" + d[:3],
        "payload: 10 bytes, cut short before its body",
    ),
    "too many channels": (patched(2, b"\x07"), "payload: latent 7×5×7 does not fit this model's 6×5×7"),
    "other plane": (patched(3, b"\x06"), "payload: latent 6×6×7 does not fit this model's 6×5×7"),
    "codec without tables": (
        patched(1, b"\x11"),
        "payload: CRC-32 is {crc_alone}, declared {crc_with}: it was altered or cut short on the way",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_defect_has_its_exact_error(case: str, good: bytes, tables: FrequencyTables) -> None:
    change, message = REFUSED[case]
    data = change(good, tables.digest)
    crc = zlib.crc32(data[:-4])
    expected = message.format(crc_alone=f"{crc:08x}", crc_with=f"{zlib.crc32(tables.digest, crc):08x}")
    with pytest.raises(PayloadError) as caught:
        decode_payload(data, tables=tables, max_latent_bytes=CAP, expect=(6, 5, 7))
    assert str(caught.value) == expected


def test_other_tables_are_named(
    good: bytes, tables: FrequencyTables, context_tables: FrequencyTables
) -> None:
    assert tables.digest[0] != context_tables.digest[0]
    with pytest.raises(PayloadError) as caught:
        decode_payload(good, tables=context_tables, max_latent_bytes=CAP)
    assert str(caught.value) == (
        f"payload: made with tables {tables.table_id[:2]}…, the tables here are {context_tables.table_id}; "
        "load one bundle on both ends"
    )


def test_other_tables_that_begin_alike_are_a_checksum_error(good: bytes, tables: FrequencyTables) -> None:
    other = tables.digest[:1] + bytes(7)
    with pytest.raises(PayloadError) as caught:
        decode_payload(reseal(good, other), tables=tables, max_latent_bytes=CAP)
    assert str(caught.value).endswith(
        f": it was altered or cut short on the way, or made with other tables than {tables.table_id}"
    )


def test_a_changed_byte_is_a_checksum_error(good: bytes, tables: FrequencyTables) -> None:
    altered = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    with pytest.raises(
        PayloadError, match=r"^payload: CRC-32 is [0-9a-f]{8}, declared [0-9a-f]{8}: it was altered"
    ):
        decode_payload(altered, tables=tables, max_latent_bytes=CAP)


def test_without_tables_rans_is_refused_and_raw_is_not(
    good: bytes, latent_chw: NDArray[np.uint8], tables: FrequencyTables
) -> None:
    with pytest.raises(PayloadError, match=r"codec rans needs tables, there are none here; load one bundle"):
        decode_payload(good, tables=None, max_latent_bytes=CAP)
    raw = encode_payload(latent_chw, codec="raw", width_index=0, tables=tables)
    assert (decode_payload(raw, tables=None, max_latent_bytes=CAP).latent_chw == latent_chw).all()


def test_more_channels_than_the_tables_of_a_narrow_width(good: bytes, tables: FrequencyTables) -> None:
    with pytest.raises(PayloadError, match=r"6 channels, but tables for 4$"):
        decode_payload(patched(1, b"\x02")(good, tables.digest), tables=tables, max_latent_bytes=CAP)


def test_the_cap_is_the_decoded_size(good: bytes, tables: FrequencyTables) -> None:
    decode_payload(good, tables=tables, max_latent_bytes=210)
    with pytest.raises(PayloadError, match=r"^payload: latent 6×5×7 is 210 bytes, the cap is 209$"):
        decode_payload(good, tables=tables, max_latent_bytes=209)


@pytest.mark.parametrize("codec", CODECS)
def test_a_huge_latent_is_refused_before_it_is_allocated(codec: str, tables: FrequencyTables) -> None:
    hostile = Payload(
        codec=codec,
        width_index=0,
        channels=65535,
        height=65535,
        width=65535,
        table_id=tables.digest if CODECS[codec].needs_tables else b"",
        body=b"\x1f\xff\xff",
    ).to_bytes()
    assert peak_of_refusal(hostile, tables, cap=1 << 20) < 16_384


def test_a_body_that_expands_allocates_no_more_than_declared() -> None:
    body = lz4.block.compress(bytes(16 << 20), store_size=False)
    bomb = Payload(
        codec="bitshuffle-lz4", width_index=0, channels=1, height=8, width=8, table_id=b"", body=body
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


@given(kind=st.integers(0, 255), rest=st.binary(min_size=4, max_size=60))
def test_hostile_headers_are_refused_or_decode_to_their_shape(
    context_tables: FrequencyTables, kind: int, rest: bytes
) -> None:
    # The magic, the version and the checksum are right: everything behind them must hold.
    table_id = context_tables.digest if kind & 15 == CODECS["rans"].codec_id else b""
    data = reseal(bytes([0xB2, kind]) + rest[:3] + table_id[:1] + rest[3:] + bytes(4), table_id)
    decoded, complaint = None, ""
    try:
        decoded = decode_payload(data, tables=context_tables, max_latent_bytes=4096)
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
    assert {name: codec.codec_id for name, codec in CODECS.items()} == {
        "raw": 1,
        "rans": 2,
        "bitshuffle-lz4": 3,
    }
