"""The rans codec: both implementations, bit for bit, against the entropy and against hostile bodies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables, Payload, RansCodec, coder_backend, decode_payload
from isthmus.runtime.codecs.rans import LANES, MANY_LANES_FROM, choose_backend
from isthmus.runtime.errors import InputError, PayloadError

C_CODER = pytest.importorskip(
    "isthmus.runtime.codecs._rans", reason="the C coder is not built", exc_type=ImportError
)
FAST, PORTABLE = RansCodec(backend="c"), RansCodec(backend="numpy")
SHAPE = (6, 5, 7)


def refusal(codec: RansCodec, body: bytes, shape: tuple[int, int, int], tables: FrequencyTables) -> str:
    """Return the error with which `body` is refused."""
    with pytest.raises(PayloadError) as caught:
        codec.decode(body, shape, tables, 1)
    return str(caught.value)


def outcome(
    codec: RansCodec, body: bytes, shape: tuple[int, int, int], tables: FrequencyTables
) -> bytes | str:
    """Return the symbols, or the error's text."""
    try:
        return codec.decode(body, shape, tables, 1).tobytes()
    except PayloadError as error:
        return str(error)


def test_a_stream_worked_out_by_hand() -> None:
    sample = np.array([5] * 3000 + [6] * 1000 + [7] * 95, np.uint8).reshape(1, 1, 1, -1)
    tables = FrequencyTables.fit([sample])  # 5: [0, 3000), 6: [3000, 4000), 7: [4000, 4095), escape: 4095
    for codec in (FAST, PORTABLE):
        # 6 from state 0: 3000 = 0x0bb8. Then 7: 3000 = 31 * 95 + 55, so 31 * 4096 + 4000 + 55 = 0x01ffd7.
        assert codec.encode(np.array([[[6]]], np.uint8), tables, 0).hex() == "0bb8"
        assert codec.encode(np.array([[[7, 6]]], np.uint8), tables, 0).hex() == "01ffd7"
        # The lowest value of the window leaves state 0 as it is, so a latent of these alone has no bytes.
        assert codec.encode(np.full((1, 3, 3), 5, np.uint8), tables, 0) == b""
        # 200 escaped: its 8 bits, 200 << 4 = 3200; then one slot at 4095: 3200 * 4096 + 4095 = 0xc80fff.
        assert codec.encode(np.array([[[200]]], np.uint8), tables, 0).hex() == "c80fff"


@pytest.mark.parametrize("shape", [(12, 8, 8), (16, 8, 8), (24, 28, 28), (24, 16, 16)])
@pytest.mark.parametrize("scale", [2.0, 8.0])
def test_within_two_percent_of_the_entropy(shape: tuple[int, int, int], scale: float, draw_latents) -> None:
    tables = FrequencyTables.fit([draw_latents(60, *shape, seed=5, scale=scale, decay=0.85)])
    latents = draw_latents(8, *shape, seed=6, scale=scale, decay=0.85)
    ideal = [tables.ideal_bits(latent, 0) / 8 for latent in latents]
    actual = [len(FAST.encode(latent, tables, 0)) for latent in latents]
    assert min(ideal) > 80
    for own, best in zip(actual, ideal, strict=True):
        assert best - 1 < own < best + (3 if math.prod(shape) < MANY_LANES_FROM else 16)
    assert sum(actual) < 1.02 * sum(ideal)


latents_st = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    # Most values near the zero point, where the windows are; some anywhere, which escape.
    elements=st.one_of(st.integers(110, 146), st.integers(110, 146), st.integers(0, 255)),
)


@given(latent=latents_st)
@example(latent=np.zeros((6, 6, 6), np.uint8))
def test_round_trip_and_equal_bytes(tables: FrequencyTables, latent: NDArray[np.uint8]) -> None:
    body = FAST.encode(latent, tables, 1)
    assert body == PORTABLE.encode(latent, tables, 1)
    for codec in (FAST, PORTABLE):
        np.testing.assert_array_equal(codec.decode(body, latent.shape, tables, 1), latent)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(6, 53, 52), (6, 53, 53), (5, 64, 52), (3, 85, 101), (6, 1, 2731)])
def test_many_lanes_are_equal_in_both(
    shape: tuple[int, int, int], seed: int, tables: FrequencyTables, draw_latents
) -> None:
    assert math.prod(shape) >= MANY_LANES_FROM
    latent = draw_latents(1, *shape, seed=seed, scale=9)[0]
    body = FAST.encode(latent, tables, 1)
    assert body == PORTABLE.encode(latent, tables, 1)
    for codec in (FAST, PORTABLE):
        np.testing.assert_array_equal(codec.decode(body, shape, tables, 1), latent)


def test_lanes_change_at_the_documented_count(tables: FrequencyTables, draw_latents) -> None:
    one, many = (draw_latents(1, 1, 1, n, seed=4)[0] for n in (MANY_LANES_FROM - 1, MANY_LANES_FROM))
    packed = tables.width(1).packed
    assert FAST.encode(one, tables, 1) == C_CODER.encode(one.tobytes(), one.size, packed, 1)[0]
    streams = C_CODER.encode(many.tobytes(), many.size, packed, LANES)
    lengths = b"".join(bytes([len(stream) & 0x7F | 0x80, len(stream) >> 7]) for stream in streams[:-1])
    assert FAST.encode(many, tables, 1) == lengths + b"".join(streams)


@given(body=st.binary(max_size=120))
@example(body=b"")
@example(body=b"\0")
@example(body=b"\xff" * 40)
def test_any_body_is_one_latent_or_an_error(tables: FrequencyTables, body: bytes) -> None:
    """An attacker computes the checksum too; what decodes must then be exactly what encodes to that body."""
    data = Payload(
        codec="rans", width_index=1, channels=6, height=5, width=7, table_id=tables.digest, body=body
    ).to_bytes()
    try:
        decoded = decode_payload(data, tables=tables, max_latent_bytes=210, expect=SHAPE)
    except PayloadError:
        assert isinstance(outcome(PORTABLE, body, SHAPE, tables), str)
    else:
        assert decoded.latent_chw.shape == SHAPE
        assert FAST.encode(decoded.latent_chw, tables, 1) == body
        assert PORTABLE.decode(body, SHAPE, tables, 1).tobytes() == decoded.latent_chw.tobytes()


@given(latent=latents_st, cut=st.integers(0, 200), tail=st.binary(max_size=4), flip=st.integers(0, 2000))
def test_both_refuse_alike(
    tables: FrequencyTables, latent: NDArray[np.uint8], cut: int, tail: bytes, flip: int
) -> None:
    body = bytearray(FAST.encode(latent, tables, 1)[:cut] + tail)
    if body:
        body[flip // 8 % len(body)] ^= 1 << flip % 8
    result = outcome(FAST, bytes(body), latent.shape, tables)
    assert result == outcome(PORTABLE, bytes(body), latent.shape, tables)
    if isinstance(result, bytes):
        decoded = np.frombuffer(result, np.uint8).reshape(latent.shape)
        assert FAST.encode(decoded, tables, 1) == bytes(body)


MANY = (6, 53, 53)


@given(start=st.binary(max_size=12), length=st.integers(0, 9000), seed=st.integers(0, 2**32 - 1))
@example(start=b"\xff" * 12, length=0, seed=0)
@example(start=b"\x80\x00", length=10, seed=0)
def test_hostile_streams_of_many_lanes(tables: FrequencyTables, start: bytes, length: int, seed: int) -> None:
    body = start + np.random.default_rng(seed).bytes(length)
    result = outcome(FAST, body, MANY, tables)
    if isinstance(result, bytes):
        assert FAST.encode(np.frombuffer(result, np.uint8).reshape(MANY), tables, 1) == body
    else:
        assert result.startswith("payload: rans body cannot be decoded: ")


@pytest.mark.parametrize("codec", [FAST, PORTABLE], ids=["c", "numpy"])
@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        (b"\0\1", SHAPE, "a stream starts with a zero byte"),
        (b"\1" * 500, SHAPE, "it holds more than the declared symbols"),
        (b"", MANY, "a stream's length is cut short or too long"),
        (b"\x81", MANY, "a stream's length is cut short or too long"),
        (b"\xff" * 5 + bytes(9), MANY, "a stream's length is cut short or too long"),
        (b"\x81\0\1\1" + bytes(9), MANY, "a stream's length is not in its shortest form"),
        (b"\1\2\3" + bytes(5), MANY, "its streams need 9 bytes, the body has 8"),
        (b"\1\0\0" + b"\0", MANY, "a stream starts with a zero byte"),
    ],
)
def test_exact_errors(
    codec: RansCodec, body: bytes, shape: tuple[int, int, int], message: str, tables: FrequencyTables
) -> None:
    assert refusal(codec, body, shape, tables) == f"payload: rans body cannot be decoded: {message}"


@pytest.mark.parametrize("codec", [FAST, PORTABLE], ids=["c", "numpy"])
def test_a_needless_escape_is_refused(codec: RansCodec, tables: FrequencyTables) -> None:
    first = int(tables.width(1).first[0])
    start = int(tables.width(1).cumulative[0, int(tables.width(1).size[0])])
    frequency = 4096 - start
    state = first << 4  # the 8 bits of a value that the window holds
    state = (state // frequency << 12) + start + state % frequency
    body = state.to_bytes(4, "big").lstrip(b"\0")
    message = refusal(codec, body, (1, 1, 1), tables)
    assert message == "payload: rans body cannot be decoded: a value is escaped that its table holds"


@pytest.mark.parametrize(
    ("setting", "has_c", "backend"),
    [(None, True, "c"), ("", True, "c"), (None, False, "numpy"), ("numpy", True, "numpy"), ("c", True, "c")],
)
def test_choice_of_implementation(setting: str | None, has_c: bool, backend: str) -> None:
    assert choose_backend(setting, has_c=has_c) == backend


@pytest.mark.parametrize(
    ("setting", "message"),
    [("rust", "ISTHMUS_RANS=rust: unknown coder; use c or numpy"), ("c", "was not built")],
)
def test_a_coder_that_is_not_there_is_an_input_error(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_backend(setting, has_c=False)


def test_the_environment_chooses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    coder_backend.cache_clear()
    try:
        monkeypatch.setenv("ISTHMUS_RANS", "numpy")
        assert coder_backend() == "numpy"
        monkeypatch.delenv("ISTHMUS_RANS")
        assert coder_backend() == "numpy"
    finally:
        coder_backend.cache_clear()
