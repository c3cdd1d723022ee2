"""Bit planes and LZ4."""

from __future__ import annotations

import lz4.block
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.codecs.bitshuffle_lz4 import BitshuffleLz4Codec
from isthmus.runtime.errors import PayloadError

CODEC = BitshuffleLz4Codec()


def test_planes_are_most_significant_first_and_padded() -> None:
    body = CODEC.encode(np.array([0x80, 0x81, 0x01], np.uint8).reshape(3, 1, 1), None, 0)
    planes = lz4.block.decompress(body, uncompressed_size=8)
    assert planes == bytes([0b11000000, 0, 0, 0, 0, 0, 0, 0b01100000])


def test_few_used_bits_compress_better_than_the_plain_latent() -> None:
    latent = np.random.default_rng(0).integers(0, 4, (8, 16, 16), dtype=np.uint8)
    assert len(CODEC.encode(latent, None, 0)) < 0.4 * len(
        lz4.block.compress(latent.tobytes(), store_size=False)
    )


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        (bytes(7), "holds 7 bytes, not 8"),
        (bytes(9), "is not an LZ4 block of this latent"),
        (bytes([0b00010000]) + bytes(7), "padding bits that are not zero"),
    ],
)
def test_what_decodes_to_something_else_is_refused(planes: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        CODEC.decode(lz4.block.compress(planes, store_size=False), (3, 1, 1), None, 0)


@given(st.binary(max_size=60))
def test_any_body_decodes_to_the_shape_or_is_refused(body: bytes) -> None:
    latent = complaint = None
    try:
        latent = CODEC.decode(body, (2, 3, 5), None, 0)
    except PayloadError as error:
        complaint = str(error)
    if latent is not None:
        assert latent.shape == (2, 3, 5)
    else:
        assert complaint is not None
        assert complaint.startswith("payload: bitshuffle-lz4 body")
