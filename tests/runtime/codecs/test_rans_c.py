"""The C loops alone: wrong arguments, and tables and networks that no `FrequencyTables` would let through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.codecs.contexts import PROGRAM, pack

C_CODER = pytest.importorskip(
    "isthmus.runtime.codecs._rans", reason="the C coder is not built", exc_type=ImportError
)
BLOCK, TOTAL = 518, 4096
OWN = pack(None, 0, 0)  # a channel with table 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((b"", 1, 1, bytes(BLOCK), OWN), ValueError, "do not fill whole channels"),
        ((b"ab", 0, 1, bytes(BLOCK), OWN), ValueError, "do not fill whole channels"),
        ((b"ab", -1, -2, bytes(BLOCK), OWN), ValueError, "do not fill whole channels"),
        ((b"abc", 1, 2, bytes(BLOCK), OWN), ValueError, "do not fill whole channels"),
        ((b"ab", 2**62, 4, bytes(BLOCK), OWN), ValueError, "do not fill whole channels"),
        ((b"ab", 1, 2, bytes(BLOCK), OWN[:-1]), ValueError, "more channels than networks"),
        ((b"ab", 1, 1, bytes(BLOCK), OWN), ValueError, "more channels than networks"),
        ((b"ab", 1, 2, bytes(BLOCK - 1), OWN), ValueError, "network is inconsistent"),
        ((b"ab", 1, 2, bytes(BLOCK * 65536), OWN), ValueError, "too many tables"),
        ((b"ab", 1, 2, bytes(BLOCK), OWN), ValueError, "table is inconsistent"),
        ((bytearray(b"ab"), 1, 2, bytes(BLOCK), OWN), TypeError, "."),
        ((b"ab", 1, 2, bytearray(BLOCK), OWN), TypeError, "."),
        ((b"ab", 2), TypeError, "."),
    ],
)
def test_encode_refuses(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        C_CODER.encode(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((b"", -2, 1, 1, bytes(BLOCK), bytes(TOTAL), OWN), ValueError, "do not fill whole channels"),
        ((b"", 1, 0, 1, bytes(BLOCK), bytes(TOTAL), OWN), ValueError, "do not fill whole channels"),
        ((b"", 2**62, 1, 1, bytes(BLOCK), bytes(TOTAL), OWN), ValueError, "do not fill whole channels"),
        ((b"", 1, 2**40, 2**40, bytes(BLOCK), bytes(TOTAL), OWN), ValueError, "do not fill whole channels"),
        ((b"", 2, 1, 1, bytes(BLOCK), bytes(TOTAL), OWN), ValueError, "more channels than networks"),
        ((b"", 1, 1, 1, bytes(BLOCK), bytes(TOTAL - 1), OWN), ValueError, "more tables than slot tables"),
        ((1, 1, 1, 1, bytes(BLOCK), bytes(TOTAL), OWN), TypeError, "."),
    ],
)
def test_decode_refuses(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        C_CODER.decode(*arguments)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("table", 8),
        ("classes", 0),
        ("classes", -1),
        ("classes", 3),
        ("classes", 2**30),
        ("parents", -1),
        ("parents", 9),
        ("parent", 1),
        ("parent", -1),
        ("parent", 2**31 - 1),
    ],
)
def test_inconsistent_networks_are_refused(field: str, value: int) -> None:
    program = np.zeros(2, dtype=PROGRAM)
    program["table"], program["classes"], program["parents"] = (0, -1), 2, (0, 1)
    tables = np.zeros((8, 259), dtype="<u2")
    tables[:, 1], tables[:, 3], tables[:, 4:] = 1, 4095, TOTAL
    C_CODER.encode(bytes(8), 2, 2, tables.tobytes(), program.tobytes())
    program[field][1] = value
    for call in (
        lambda: C_CODER.encode(bytes(8), 2, 2, tables.tobytes(), program.tobytes()),
        lambda: C_CODER.decode(b"", 2, 2, 2, tables.tobytes(), bytes(8 * TOTAL), program.tobytes()),
    ):
        with pytest.raises(ValueError, match="a context network is inconsistent"):
            call()


@given(
    seed=st.integers(0, 2**32 - 1), height=st.integers(1, 7), width=st.integers(1, 7), mode=st.integers(0, 15)
)
def test_hostile_tables_and_networks_crash_nothing(seed: int, height: int, width: int, mode: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.bytes(2 * height * width)
    block = rng.integers(0, 65536, (9, 259), dtype=np.uint16)
    if mode & 1:
        block[:, 1] = rng.integers(1, 256, 9)  # a size in range, so that the cumulative entries are used
    if mode & 2:
        block[:, 2:] = np.sort(rng.integers(0, 4097, (9, 257)), axis=1)
    programs = np.frombuffer(rng.bytes(2 * PROGRAM.itemsize), dtype=PROGRAM).copy()
    if mode & 4:
        programs["table"] = rng.integers(-1, 9, 2)
        programs["classes"], programs["parents"] = 2, (0, rng.integers(0, 9))
        programs["parent"] = 0
    tables = block.astype("<u2").tobytes()
    encoded, decoded, complaints = b"", b"", []
    try:
        encoded = C_CODER.encode(symbols, height, width, tables, programs.tobytes())
    except ValueError as error:
        complaints.append(str(error))
    assert len(encoded) <= 4 * (len(symbols) + 1)
    stream = rng.bytes(int(rng.integers(0, 60)))
    try:
        decoded = C_CODER.decode(stream, 2, height, width, tables, rng.bytes(9 * TOTAL), programs.tobytes())
    except ValueError as error:
        complaints.append(str(error))
    assert len(decoded) == len(symbols) or complaints


def test_a_large_latent_is_coded_without_the_interpreter_lock(
    any_tables: FrequencyTables, draw_latents
) -> None:
    latent = draw_latents(1, 6, 80, 80, seed=8)[0]  # 38,400 symbols: past the point where the lock is let go
    width = any_tables.width(1)
    stream = C_CODER.encode(latent.tobytes(), 80, 80, width.packed, width.programs)
    decoded = C_CODER.decode(stream, 6, 80, 80, width.packed, width.slots, width.programs)
    assert decoded == latent.tobytes()
