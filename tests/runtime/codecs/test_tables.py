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
from isthmus.runtime.codecs.tables import _DTYPES as DTYPES
from isthmus.runtime.codecs.tables import _META as META
from isthmus.runtime.codecs.width_tables import TOTAL
from isthmus.runtime.errors import BundleError, InputError


def altered(tables: FrequencyTables, **changes: list[int]) -> bytes:
    """Return the tables' bytes with some arrays replaced."""
    arrays = read_arrays(tables.to_bytes(), DTYPES, META)
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
        ({"meta": [1, 12]}, r"schema and precision \[1, 12\], this Isthmus reads \[2, 12\]"),
        ({"meta": [2, 14]}, r"schema and precision \[2, 14\]"),
        ({"meta": []}, r"schema and precision \[\]"),
        ({"channels": []}, "0 widths, or a width without channels"),
        ({"channels": [0, 10]}, "2 widths, or a width without channels"),
        ({"channels": [4, 7]}, "10 numbers of parents for 11 channels"),
        ({"classes": [0]}, "1 numbers of classes"),
        ({"classes": [0, 65]}, "2 numbers of classes, or one above 64"),
        ({"classes": [0, 1]}, "networks without classes, or classes without networks"),
        ({"parents": [255] * 9 + [9]}, "numbers of parents for 10 channels, or too many"),
        ({"parents": [255] * 9 + [0]}, "hidden_weight has 0 numbers, the networks need 128"),
        ({"parent": [1]}, "parent has 1 numbers, the networks need 0"),
        ({"first": [1] * 9}, "9 windows for 10 tables"),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": [255] * 4 + [255, 1, 2, 3, 4, 255]}, "hidden_weight has"),
        ({"parent": [0, 0, 0, 0, 1, 2, 0, 1, 2, 3]}, "the parents of channel 2 are not earlier channels"),
        ({"parent": [0, 0, 2, 0, 1, 2, 0, 1, 2, 3]}, "the parents of channel 2 are not earlier channels"),
        ({"parent": [0, 1, 0, 0, 1, 2, 0, 1, 2, 3]}, "the parents of channel 2 are not earlier channels"),
        ({"output_bias": [0] * 9 + [(1 << 29) + 1]}, "a bias of a context network passes 536870912"),
        ({"hidden_bias": [-(2**31)] + [0] * 79}, "a bias of a context network passes 536870912"),
        ({"classes": [0, 0]}, "networks without classes"),
        ({"classes": [0, 36]}, "windows for 149 tables"),
    ],
)
def test_contradictions_of_networks_are_bundle_errors(
    changes: dict[str, list[int]], message: str, context_tables: FrequencyTables
) -> None:
    assert altered(context_tables) == context_tables.to_bytes()
    with pytest.raises(BundleError, match=f"^tables.npz: not frequency tables: .*{message}"):
        FrequencyTables.from_bytes(altered(context_tables, **changes))


def test_tables_of_the_first_format_are_refused_in_one_line() -> None:
    old = {"meta": "<u2", "channels": "<u2", "first": "|u1", "size": "|u1", "frequency": "<u2"}
    values = {"meta": [1, 12], "channels": [1], "first": [5], "size": [1], "frequency": [4095, 1]}
    data = write_arrays({name: np.array(values[name], dtype) for name, dtype in old.items()})
    with pytest.raises(BundleError) as caught:
        FrequencyTables.from_bytes(data, source="b/tables.npz")
    assert str(caught.value) == (
        "b/tables.npz: not frequency tables: schema and precision [1, 12], this Isthmus reads [2, 12]; "
        "export the bundle again"
    )


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
    own = {
        f"{name}.npy": npy_of(array) for name, array in read_arrays(tables.to_bytes(), DTYPES, META).items()
    }
    FrequencyTables.from_bytes(archive(own))
    pickled = npy_of(np.array([print], dtype=object))
    huge = own["frequency.npy"].replace(b"'shape': (", b"'shape': (9999999999,) or (", 1)
    for data, message in [
        (b"", "damaged archive"),
        (b"PK\x03\x04" + bytes(100), "damaged archive"),
        (archive({}), "does not hold exactly meta, channels, classes, parents, parent, hidden_weight"),
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
    any_tables: FrequencyTables, position: int, value: int
) -> None:
    data = bytearray(any_tables.to_bytes())
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
    assert complaint or (changed is not None and changed.table_id != any_tables.table_id)
