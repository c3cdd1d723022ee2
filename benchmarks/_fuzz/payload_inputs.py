"""Payloads that are well-formed, nearly so, or not at all.

A checksum keeps random damage out of the decoders. Whoever means harm computes it anew, so most inputs here
are sealed again after they were altered.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from _fuzz.mutation import Mutator
from isthmus.runtime.codecs import CODECS, FrequencyTables, Payload, encode_payload

# Tables whose channels mostly have context networks; the tests hold them.
_GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "runtime" / "codecs" / "golden" / "tables.npz"
_PLANE = (5, 7)  # rows and columns line up with no vector
_EACH = 6
_SIZES = (0, 1, 2, 5, 6, 7, 8, 127, 128, 255, 256, 1024, 16_383, 16_384, 65_535)


@dataclass(frozen=True, slots=True)
class PayloadInput:
    """One input.

    Attributes:
        kind: How it was made.
        tables: What it is read with.
        data: The bytes.
    """

    kind: str
    tables: FrequencyTables
    data: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """Tables, and well-formed payloads made with them."""

    tables: FrequencyTables
    payloads: tuple[bytes, ...]


class PayloadInputs:
    """An endless sequence of inputs; the same for the same seed.

    Attributes:
        shape: Channels, height and width of the full latent.
    """

    def __init__(self, seed: int) -> None:
        """Make well-formed payloads of all codecs, from which the others are made."""
        self._random = Random(seed)
        self._sources = sources()
        pool = [payload for source in self._sources for payload in source.payloads]
        self._mutator = Mutator(self._random, pool)
        self._makers = (
            *(("resealed", self._resealed),) * 5,
            *(("header", self._header),) * 3,
            *(("mutated", self._mutated),) * 2,
            *(("body", self._body),) * 3,
            ("random", lambda source: self._mutator.random_bytes(80)),
            ("truncated", self._truncated),
            ("well-formed", lambda source: self._random.choice(source.payloads)),
        )
        self.shape = (max(source.tables.channels[-1] for source in self._sources), *_PLANE)

    def next(self) -> PayloadInput:
        """Return the next one."""
        source = self._random.choice(self._sources)
        kind, make = self._random.choice(self._makers)
        return PayloadInput(kind, source.tables, make(source))

    def _mutated(self, source: Source) -> bytes:
        return self._mutator.mutate(self._random.choice(source.payloads))

    def _resealed(self, source: Source) -> bytes:
        payload = self._random.choice(source.payloads)
        return seal(self._mutator.mutate(payload[:-4]), source.tables)

    def _truncated(self, source: Source) -> bytes:
        payload = self._random.choice(source.payloads)
        return seal(payload[: self._random.randint(0, len(payload) - 4)], source.tables)

    def _header(self, source: Source) -> bytes:
        """Return a body under another header than its own, of sizes at the edges."""
        codec = self._random.choice(tuple(CODECS))
        sizes = (*self.shape, *_SIZES) if self._random.random() < 0.5 else self.shape
        return Payload(
            codec=codec,
            width_index=self._random.choice((0, 1, 1, 2, 14, 15, 16, 255)),
            channels=self._random.choice(sizes),
            height=self._random.choice(sizes[1:]),
            width=self._random.choice(sizes[2:]),
            table_id=source.tables.digest if CODECS[codec].needs_tables else b"",
            body=self._random.choice(source.payloads)[5:-4],
        ).to_bytes()

    def _body(self, source: Source) -> bytes:
        """Return a right header over a body of random or altered bytes: what decoders have to stand."""
        codec = self._random.choice(("rans", "rans", "raw", "bitshuffle-lz4"))
        width_index = self._random.randrange(len(source.tables.channels))
        body = self._random.choice(source.payloads)[6:-4]
        return Payload(
            codec=codec,
            width_index=width_index,
            channels=self._random.randint(1, source.tables.channels[width_index]),
            height=_PLANE[0],
            width=_PLANE[1],
            table_id=source.tables.digest if CODECS[codec].needs_tables else b"",
            body=self._mutator.mutate(body)
            if self._random.random() < 0.5
            else self._mutator.random_bytes(300),
        ).to_bytes()


def seal(data: bytes, tables: FrequencyTables) -> bytes:
    """Return `data`, a payload without its checksum, with the one that its codec asks for."""
    codec_id = data[1] & 0xF if len(data) > 1 else 0
    table_id = (
        tables.digest if any(c.codec_id == codec_id and c.needs_tables for c in CODECS.values()) else b""
    )
    return data + struct.pack("<I", zlib.crc32(table_id, zlib.crc32(data)))


@cache
def sources() -> tuple[Source, ...]:
    """Return tables without and with context networks, and payloads of either."""
    random = np.random.default_rng(20)
    golden = FrequencyTables.from_bytes(_GOLDEN.read_bytes())
    plain = FrequencyTables.fit([_latents(random, 40, channels) for channels in golden.channels])
    return tuple(Source(tables, _payloads(tables, random)) for tables in (plain, golden))


def _payloads(tables: FrequencyTables, random: np.random.Generator) -> tuple[bytes, ...]:
    return tuple(
        encode_payload(latent[:channels], codec=codec, width_index=width_index, tables=tables)
        for width_index, most in enumerate(tables.channels)
        for codec in CODECS
        for channels in range(1, most + 1)
        for latent in _latents(random, _EACH, most)
    )


def _latents(random: np.random.Generator, count: int, channels: int) -> np.ndarray:
    """Return latents uint8 [count, channels, H, W]: peaked, and smooth in a row."""
    steps = random.laplace(0, 6, (count, channels, *_PLANE))
    smooth = steps + 0.5 * np.roll(steps, 1, axis=3)
    return np.clip(np.rint(128 + smooth), 0, 255).astype(np.uint8)
