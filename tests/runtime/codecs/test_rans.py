"""The rans codec: both implementations, bit for bit, against the entropy and against hostile bodies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables, Payload, RansCodec, coder_backend, decode_payload
from isthmus.runtime.codecs.rans import choose_backend
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
    tables = FrequencyTables.fit([draw_latents(40, *shape, seed=5, scale=scale, decay=0.85)])
    latents = draw_latents(8, *shape, seed=6, scale=scale, decay=0.85)
    ideal = [tables.ideal_bits(latent, 0) / 8 for latent in latents]
    actual = [len(FAST.encode(latent, tables, 0)) for latent in latents]
    assert min(ideal) > 80
    for own, best in zip(actual, ideal, strict=True):
        assert best - 1 < own < best + 3
    assert sum(actual) < 1.02 * sum(ideal)


latents_st = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    # Most values near the zero point, where the windows are; some anywhere, which escape.
    elements=st.one_of(st.integers(110, 146), st.integers(110, 146), st.integers(0, 255)),
)


@given(latent=latents_st)
@example(latent=np.zeros((6, 6, 6), np.uint8))
def test_round_trip_and_equal_bytes(any_tables: FrequencyTables, latent: NDArray[np.uint8]) -> None:
    body = FAST.encode(latent, any_tables, 1)
    assert body == PORTABLE.encode(latent, any_tables, 1)
    for codec in (FAST, PORTABLE):
        np.testing.assert_array_equal(codec.decode(body, latent.shape, any_tables, 1), latent)


@pytest.mark.parametrize("shape", [(6, 28, 31), (5, 1, 900), (3, 700, 1)])
def test_large_latents_are_equal_in_both(
    shape: tuple[int, int, int], any_tables: FrequencyTables, draw_related
) -> None:
    latent = draw_related(1, *shape, seed=4)[0]
    body = FAST.encode(latent, any_tables, 1)
    assert body == PORTABLE.encode(latent, any_tables, 1)
    for codec in (FAST, PORTABLE):
        np.testing.assert_array_equal(codec.decode(body, shape, any_tables, 1), latent)


def test_contexts_make_related_latents_smaller(context_tables: FrequencyTables, draw_related) -> None:
    sample, latents = (draw_related(n, 5, 5, 7, seed=seed) for n, seed in ((500, 30), (60, 31)))
    alone = FrequencyTables.fit([sample])  # too few for networks
    assert alone.width(0).classes == 0
    with_contexts = sum(len(FAST.encode(latent, context_tables, 1)) for latent in latents)
    without = sum(len(FAST.encode(latent, alone, 0)) for latent in latents)
    assert with_contexts < 0.9 * without
    ideal = sum(context_tables.ideal_bits(latent, 1) for latent in latents) / 8
    assert ideal < with_contexts < ideal + 2 * len(latents)


@given(body=st.binary(max_size=120))
@example(body=b"")
@example(body=b"\0")
@example(body=b"\xff" * 40)
def test_any_body_is_one_latent_or_an_error(any_tables: FrequencyTables, body: bytes) -> None:
    """An attacker computes the checksum too; what decodes must then be exactly what encodes to that body."""
    data = Payload(
        codec="rans", width_index=1, channels=6, height=5, width=7, table_id=any_tables.digest, body=body
    ).to_bytes()
    try:
        decoded = decode_payload(data, tables=any_tables, max_latent_bytes=210, expect=SHAPE)
    except PayloadError:
        assert isinstance(outcome(PORTABLE, body, SHAPE, any_tables), str)
    else:
        assert decoded.latent_chw.shape == SHAPE
        assert FAST.encode(decoded.latent_chw, any_tables, 1) == body
        assert PORTABLE.decode(body, SHAPE, any_tables, 1).tobytes() == decoded.latent_chw.tobytes()


@given(latent=latents_st, cut=st.integers(0, 200), tail=st.binary(max_size=4), flip=st.integers(0, 2000))
def test_both_refuse_alike(
    any_tables: FrequencyTables, latent: NDArray[np.uint8], cut: int, tail: bytes, flip: int
) -> None:
    body = bytearray(FAST.encode(latent, any_tables, 1)[:cut] + tail)
    if body:
        body[flip // 8 % len(body)] ^= 1 << flip % 8
    result = outcome(FAST, bytes(body), latent.shape, any_tables)
    assert result == outcome(PORTABLE, bytes(body), latent.shape, any_tables)
    if isinstance(result, bytes):
        decoded = np.frombuffer(result, np.uint8).reshape(latent.shape)
        assert FAST.encode(decoded, any_tables, 1) == bytes(body)


@pytest.mark.parametrize("codec", [FAST, PORTABLE], ids=["c", "numpy"])
@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        (b"\0\1", SHAPE, "the stream starts with a zero byte"),
        (b"\1" * 500, SHAPE, "it holds more than the declared symbols"),
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
