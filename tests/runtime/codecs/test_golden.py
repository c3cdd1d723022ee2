"""Payload bytes that every version and machine must reproduce; see make_golden.py for how they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.runtime.codecs import FrequencyTables, RansCodec, decode_payload, encode_payload, parse_payload

GOLDEN = Path(__file__).parent / "golden"
PAYLOADS = sorted(GOLDEN.glob("*.bin"))


@pytest.fixture(scope="module")
def golden_tables() -> FrequencyTables:
    return FrequencyTables.from_bytes((GOLDEN / "tables.npz").read_bytes())


def latent_of(path: Path) -> NDArray[np.uint8]:
    with np.load(GOLDEN / "latents.npz", allow_pickle=False) as file:
        latent: NDArray[np.uint8] = file[path.stem.split(".")[1]]
    return latent


def width_of(path: Path) -> int:
    return 0 if "narrow" in path.stem else 1


def test_the_tables_keep_their_id(golden_tables: FrequencyTables) -> None:
    assert golden_tables.table_id == "aa5ca16f8243e423"
    assert golden_tables.channels == (4, 6)


def test_all_goldens_are_there() -> None:
    assert len(PAYLOADS) == 11


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_golden_payloads_decode(path: Path, golden_tables: FrequencyTables) -> None:
    data = path.read_bytes()
    assert parse_payload(data, tables=golden_tables).codec == path.stem.split(".")[0]
    decoded = decode_payload(data, tables=golden_tables, max_latent_bytes=1 << 16)
    np.testing.assert_array_equal(decoded.latent_chw, latent_of(path))


# LZ4 promises to decode its own blocks for ever, not to make the same ones in every version.
REPRODUCIBLE = [path for path in PAYLOADS if not path.stem.startswith("bitshuffle-lz4")]


@pytest.mark.parametrize("path", REPRODUCIBLE, ids=lambda path: path.stem)
def test_golden_payloads_are_reproduced(path: Path, golden_tables: FrequencyTables) -> None:
    codec = path.stem.split(".")[0]
    payload = encode_payload(latent_of(path), codec=codec, width_index=width_of(path), tables=golden_tables)
    assert payload == path.read_bytes()


@pytest.mark.parametrize(
    "path", [p for p in PAYLOADS if p.stem.startswith("rans")], ids=lambda path: path.stem
)
def test_the_numpy_coder_gives_the_golden_bodies(path: Path, golden_tables: FrequencyTables) -> None:
    codec, latent, width = RansCodec(backend="numpy"), latent_of(path), width_of(path)
    body = parse_payload(path.read_bytes(), tables=golden_tables).body
    assert codec.encode(latent, golden_tables, width) == body
    np.testing.assert_array_equal(codec.decode(body, latent.shape, golden_tables, width), latent)
