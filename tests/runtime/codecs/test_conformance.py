"""What every codec must do: the same cases for each, rans in both of its implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.codecs import (
    CODECS,
    Codec,
    FrequencyTables,
    RansCodec,
    decode_payload,
    encode_payload,
    parse_payload,
)
from isthmus.runtime.errors import PayloadError

CONTENDERS: dict[str, Codec] = {**CODECS, "rans-numpy": RansCodec(backend="numpy")}
SHAPE = (6, 5, 7)
CAP = 1 << 16


def cases() -> dict[str, NDArray[np.uint8]]:
    noise = np.random.default_rng(7).integers(0, 256, SHAPE, dtype=np.uint8)
    return {
        "one value": np.full((1, 1, 1), 128, np.uint8),
        "constant zero": np.zeros(SHAPE, np.uint8),
        "constant zero point": np.full(SHAPE, 128, np.uint8),
        "constant 255": np.full(SHAPE, 255, np.uint8),
        "extremes": np.where(noise > 127, 255, 0).astype(np.uint8),
        "random": noise,
        "every value": np.arange(256, dtype=np.uint8).reshape(1, 16, 16),
        "few channels": noise[:2],
        "one row": noise[:, :1],
        "large": np.resize(noise, (6, 61, 53)),
    }


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("name", CONTENDERS)
def test_round_trip(name: str, case: str, any_tables: FrequencyTables) -> None:
    latent = cases()[case]
    body = CONTENDERS[name].encode(latent, any_tables, 1)
    shape = (latent.shape[0], latent.shape[1], latent.shape[2])
    decoded = CONTENDERS[name].decode(memoryview(body), shape, any_tables, 1)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, latent)


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_latent_that_is_not_contiguous(
    name: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    turned = latent_chw[:, ::-1].transpose(0, 2, 1)
    assert not turned.flags.c_contiguous
    body = CONTENDERS[name].encode(turned, any_tables, 1)
    assert body == CONTENDERS[name].encode(np.ascontiguousarray(turned), any_tables, 1)


@pytest.mark.parametrize("codec", CODECS)
def test_truncated_at_every_length(
    codec: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    payload = encode_payload(latent_chw, codec=codec, width_index=1, tables=any_tables)
    for length in range(len(payload)):
        with pytest.raises(PayloadError, match=r"cut short|the shortest has 10|made with tables"):
            decode_payload(payload[:length], tables=any_tables, max_latent_bytes=CAP)


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit_is_seen(
    codec: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    payload = encode_payload(latent_chw, codec=codec, width_index=1, tables=any_tables)
    decode_payload(payload, tables=any_tables, max_latent_bytes=CAP)
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            decode_payload(bytes(flipped), tables=any_tables, max_latent_bytes=CAP)


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_body_for_another_shape_is_refused(
    name: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    body = CONTENDERS[name].encode(latent_chw, any_tables, 1)
    with pytest.raises(PayloadError, match=r"^payload: "):
        CONTENDERS[name].decode(body, (5, 5, 7), any_tables, 1)
    with pytest.raises(PayloadError, match=r"^payload: "):
        CONTENDERS[name].decode(body + b"\1", SHAPE, any_tables, 1)


@pytest.mark.parametrize("name", CONTENDERS)
def test_a_prefix_of_channels_is_a_payload_of_its_own(
    name: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    codec = CONTENDERS[name]
    for channels in range(1, 7):
        body = codec.encode(latent_chw[:channels], any_tables, 1)
        np.testing.assert_array_equal(
            codec.decode(body, (channels, 5, 7), any_tables, 1), latent_chw[:channels]
        )


@pytest.mark.parametrize("codec", CODECS)
def test_the_payload_carries_the_body_unchanged(
    codec: str, latent_chw: NDArray[np.uint8], any_tables: FrequencyTables
) -> None:
    payload = encode_payload(latent_chw, codec=codec, width_index=1, tables=any_tables)
    body = CODECS[codec].encode(latent_chw, any_tables, 1)
    assert parse_payload(payload, tables=any_tables).body == body
    assert payload[5 + CODECS[codec].needs_tables : -4] == body
    decoded = decode_payload(payload, tables=any_tables, max_latent_bytes=math.prod(SHAPE), expect=SHAPE)
    assert decoded.width_index == 1
    np.testing.assert_array_equal(decoded.latent_chw, latent_chw)
