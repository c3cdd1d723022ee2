import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.errors import WireError
from isthmus.runtime.wire.tensors import (
    check_shape,
    pack_bytes,
    unpack_bytes,
    unpack_float32,
    unpack_float32_list,
    unpack_uint8,
    unpack_uint8_list,
)


def test_bytes_are_packed_as_the_protocol_says():
    assert pack_bytes([b"ab", b""]) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("raw", "count", "message"),
    [
        (b"", 1, "x: raw contents end before item 0 of 1"),
        (b"\x01\x00\x00", 1, "x: raw contents end before item 0 of 1"),
        (b"\x01\x00\x00\x00", 1, "x: item 0 claims 1 bytes, 0 are left"),
        (b"\xff\xff\xff\xffab", 1, "x: item 0 claims 4294967295 bytes, 2 are left"),
        (b"\x01\x00\x00\x00a", 2, "x: raw contents end before item 1 of 2"),
        (b"\x01\x00\x00\x00abc", 1, "x: 2 bytes after the last of 1 items"),
    ],
)
def test_raw_bytes_of_another_length_are_refused(raw, count, message):
    with pytest.raises(WireError) as refused:
        unpack_bytes(raw, count, "x")
    assert str(refused.value) == message


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_packed_bytes_come_back(items):
    assert unpack_bytes(pack_bytes(items), len(items), "x") == tuple(items)


@given(st.binary(max_size=60), st.integers(1, 5))
def test_any_raw_bytes_unpack_to_what_packs_to_them_or_are_refused(raw, count):
    try:
        items = unpack_bytes(raw, count, "x")
    except WireError:
        return
    assert len(items) == count
    assert pack_bytes(items) == raw


def test_uint8_contents_raw_and_listed_are_the_same():
    values = [0, 1, 127, 128, 254, 255]
    raw = unpack_uint8(bytes(values), (2, 3), "x")
    listed = unpack_uint8_list(values, (2, 3), "x")
    assert raw.dtype == listed.dtype == np.uint8
    assert raw.tolist() == listed.tolist() == [[0, 1, 127], [128, 254, 255]]


def test_float32_contents_raw_and_listed_are_the_same():
    values = np.array([[0.5, -1.0]], "<f4")
    assert unpack_float32(values.tobytes(), (1, 2), "x").tolist() == [[0.5, -1.0]]
    assert unpack_float32_list([0.5, -1.0], (1, 2), "x").tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize(
    ("unpack", "contents", "message"),
    [
        (unpack_uint8, b"abc", "x: 3 bytes, shape [2, 2] needs 4"),
        (unpack_uint8_list, [1, 2, 3, 4, 5], "x: 5 values, shape [2, 2] needs 4"),
        (unpack_uint8_list, [1, 2, 3, 256], "x: value 256 does not fit UINT8"),
        (unpack_float32, b"abcd", "x: 4 bytes, shape [2, 2] needs 16"),
        (unpack_float32_list, [1.0], "x: 1 values, shape [2, 2] needs 4"),
    ],
)
def test_contents_that_do_not_fit_the_shape_are_refused(unpack, contents, message):
    with pytest.raises(WireError) as refused:
        unpack(contents, (2, 2), "x")
    assert str(refused.value) == message


def test_a_huge_shape_is_refused_before_anything_is_allocated():
    with pytest.raises(WireError, match=r"needs 4611686018427387904000000$"):
        unpack_uint8(b"ab", (2**62, 10**6), "x")


@pytest.mark.parametrize("shape", [[], [1, 2], [1, 2, 3, 4], [1, 0, 3], [1, -1, 3]])
def test_a_shape_of_another_rank_or_without_extent_is_refused(shape):
    with pytest.raises(WireError) as refused:
        check_shape(shape, 3, "x")
    assert str(refused.value) == f"x: shape {shape} is not 3 positive dimensions"
