"""Frequency tables: deterministic bytes, and nothing accepted that `fit` would not write."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables
from isthmus.runtime.codecs._npz import read_arrays, write_arrays
from isthmus.runtime.codecs.tables import TOTAL
from isthmus.runtime.errors import BundleError, InputError

DTYPES = {"meta": "<u2", "channels": "<u2", "first": "|u1", "size": "|u1", "frequency": "<u2"}


def altered(tables: FrequencyTables, **changes: list[int]) -> bytes:
    """Return the tables' bytes with some arrays replaced."""
    arrays = read_arrays(tables.to_bytes(), DTYPES)
    for name, values in changes.items():
        arrays[name] = np.array(values, dtype=DTYPES[name])
    return write_arrays(arrays)


def test_the_same_sample_gives_the_same_bytes(tables: FrequencyTables, draw_latents) -> None:
    again = FrequencyTables.fit(
        [draw_latents(40, 4, 5, 7, seed=1, scale=3), draw_latents(40, 6, 5, 7, seed=2)]
    )
    other = FrequencyTables.fit(
        [draw_latents(40, 4, 5, 7, seed=9, scale=3), draw_latents(40, 6, 5, 7, seed=2)]
    )
    assert again.to_bytes() == tables.to_bytes()
    assert other.table_id != tables.table_id


def test_round_trip_keeps_bytes_id_and_costs(tables: FrequencyTables, latent_chw: NDArray[np.uint8]) -> None:
    again = FrequencyTables.from_bytes(tables.to_bytes())
    assert again.to_bytes() == tables.to_bytes()
    assert again.table_id == tables.table_id == hashlib.sha256(tables.to_bytes()).hexdigest()[:16]
    assert again.digest.hex() == again.table_id
    assert again.channels == (4, 6)
    assert again.ideal_bits(latent_chw, 1) == tables.ideal_bits(latent_chw, 1)


def test_numpy_reads_the_file(tables: FrequencyTables) -> None:
    with np.load(io.BytesIO(tables.to_bytes()), allow_pickle=False) as file:
        assert {name: file[name].dtype.str for name in file.files} == DTYPES


def test_ideal_bits_by_hand() -> None:
    sample = np.array([5] * 3000 + [6] * 1000 + [7] * 95, np.uint8).reshape(1, 1, 1, -1)
    tables = FrequencyTables.fit([sample])
    assert tables.width(0).cumulative[0, :5].tolist() == [0, 3000, 4000, 4095, TOTAL]
    latent = np.array([5, 6, 7, 200], np.uint8).reshape(1, 2, 2)
    p = np.array([3000, 1000, 95, 1]) / 4096
    assert tables.ideal_bits(latent, 0) == pytest.approx(-np.log2(p).sum() + 8)


def test_slots_and_packed_agree_with_the_cumulative_frequencies(tables: FrequencyTables) -> None:
    width = tables.width(1)
    slots = np.frombuffer(width.slots, np.uint8).reshape(6, TOTAL)
    packed = np.frombuffer(width.packed, "<u2").reshape(6, 259)
    for channel in range(6):
        size = int(width.size[channel])
        cumulative = width.cumulative[channel].tolist()
        assert packed[channel].tolist() == [width.first[channel], size, *cumulative]
        assert slots[channel, TOTAL - 1] == size
        for index in range(size + 1):
            own = slots[channel, cumulative[index] : cumulative[index + 1]]
            assert len(own) > 0
            assert (own == index).all()


def test_tables_cannot_be_changed(tables: FrequencyTables) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tables.width(0).cumulative[0, 0] = 1


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [np.zeros((0, 1, 2, 2), np.uint8)],
        [np.zeros((1, 2, 2), np.uint8)],
        [np.zeros((1, 1, 2, 2), np.int16)],
        [np.zeros((1, 1, 1, 1), np.uint8)] * 257,
    ],
)
def test_a_sample_that_cannot_be_fitted_is_an_input_error(samples: list[NDArray[np.uint8]]) -> None:
    with pytest.raises(InputError, match=r"^tables: "):
        FrequencyTables.fit(samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": [2, 12]}, r"schema and precision \[2, 12\], this Isthmus reads \[1, 12\]"),
        ({"meta": [1, 14]}, r"schema and precision \[1, 14\]"),
        ({"meta": []}, r"schema and precision \[\]"),
        ({"channels": []}, "0 widths, or a width without channels"),
        ({"channels": [0, 10]}, "2 widths, or a width without channels"),
        ({"channels": [4, 7]}, "10 windows for 11 channels"),
        ({"first": [255] * 10}, "a window is empty or passes 255"),
        ({"size": [0] * 10}, "a window is empty or passes 255"),
        ({"size": [1] * 10}, "a frequency is zero, or their number"),
        ({"size": [1] * 10, "frequency": [4096, 0] * 10}, "a frequency is zero"),
        ({"size": [1] * 10, "frequency": [4095, 1] * 9 + [4095, 2]}, "do not add up to 4096"),
        ({"size": [1] * 10, "frequency": [4094, 1] + [4096, 1] + [4095, 1] * 8}, "do not add up to 4096"),
    ],
)
def test_contradictions_are_bundle_errors(
    changes: dict[str, list[int]], message: str, tables: FrequencyTables
) -> None:
    with pytest.raises(
        BundleError, match=f"^b/tables.npz: not frequency tables: .*{message}.*; export the bundle"
    ):
        FrequencyTables.from_bytes(altered(tables, **changes), source="b/tables.npz")


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return file.getvalue()


def npy_of(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_files_of_another_kind_are_refused(tables: FrequencyTables) -> None:
    own = {f"{name}.npy": npy_of(array) for name, array in read_arrays(tables.to_bytes(), DTYPES).items()}
    FrequencyTables.from_bytes(archive(own))
    pickled = npy_of(np.array([print], dtype=object))
    huge = own["frequency.npy"].replace(b"'shape': (", b"'shape': (9999999999,) or (", 1)
    for data, message in [
        (b"", "damaged archive"),
        (b"PK\x03\x04" + bytes(100), "damaged archive"),
        (archive({}), "does not hold exactly meta, channels, first, size, frequency"),
        (archive(own | {"more.npy": b""}), "does not hold exactly"),
        (archive(own, zipfile.ZIP_DEFLATED), "compressed or larger than the file"),
        (archive(own | {"first.npy": pickled}), "not one-dimensional"),
        (archive(own | {"first.npy": npy_of(np.zeros((5, 2), np.uint8))}), r"first is \|u1 \(5, 2\)"),
        (archive(own | {"first.npy": npy_of(np.zeros(10, np.int8))}), r"first is \|i1 \(10,\)"),
        (archive(own | {"first.npy": own["first.npy"][:-1]}), "in 9 bytes"),
        (archive(own | {"first.npy": b"\x93NUMPY"}), "."),
        (archive(own | {"frequency.npy": huge}), "."),
    ]:
        with pytest.raises(BundleError, match=f"^tables.npz: not frequency tables: .*{message}"):
            FrequencyTables.from_bytes(data)


def test_a_file_beyond_all_measure_is_refused() -> None:
    with pytest.raises(BundleError, match="tables have at most"):
        FrequencyTables.from_bytes(bytes((64 << 20) + 1))


@given(position=st.integers(0), value=st.integers(0, 255))
def test_a_changed_byte_gives_other_tables_or_an_error(
    tables: FrequencyTables, position: int, value: int
) -> None:
    data = bytearray(tables.to_bytes())
    position %= len(data)
    if data[position] == value:
        return
    data[position] = value
    changed, complaint = None, ""
    try:
        changed = FrequencyTables.from_bytes(bytes(data))
    except BundleError as error:
        complaint = str(error)
    assert "\n" not in complaint
    assert complaint or (changed is not None and changed.table_id != tables.table_id)
