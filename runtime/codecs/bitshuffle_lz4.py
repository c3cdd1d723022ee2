"""Bit planes, then LZ4: the coder of SPINN (Laskaridis et al., MobiCom 2020), here as the baseline.

The body is one LZ4 block of the latent's eight bit planes, most significant first, each packed to whole bytes
with zero padding. LZ4 may give other bytes in another version for the same latent; any of them decodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import lz4.block
import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.tables import FrequencyTables
from isthmus.runtime.errors import PayloadError


@dataclass(frozen=True, slots=True)
class BitshuffleLz4Codec:
    """Eight bit planes in one LZ4 block."""

    name: str = "bitshuffle-lz4"
    codec_id: int = 3
    needs_tables: bool = False

    def encode(
        self, latent_chw: NDArray[np.uint8], tables: FrequencyTables | None, width_index: int
    ) -> bytes:
        """See `Codec.encode`."""
        bits = np.unpackbits(latent_chw.reshape(-1, 1), axis=1)
        planes = np.packbits(bits.T, axis=1)
        return bytes(lz4.block.compress(planes.tobytes(), store_size=False))

    def decode(
        self,
        body: bytes | memoryview,
        shape_chw: tuple[int, int, int],
        tables: FrequencyTables | None,
        width_index: int,
    ) -> NDArray[np.uint8]:
        """See `Codec.decode`."""
        count = math.prod(shape_chw)
        plane_bytes = -(-count // 8)
        try:
            planes = lz4.block.decompress(body, uncompressed_size=8 * plane_bytes)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise PayloadError(
                f"payload: bitshuffle-lz4 body is not an LZ4 block of this latent ({error})"
            ) from None
        if len(planes) != 8 * plane_bytes:
            raise PayloadError(
                f"payload: bitshuffle-lz4 body holds {len(planes)} bytes, not {8 * plane_bytes}"
            )
        bits = np.unpackbits(np.frombuffer(planes, dtype=np.uint8).reshape(8, plane_bytes), axis=1)
        if bits[:, count:].any():
            raise PayloadError("payload: bitshuffle-lz4 body has padding bits that are not zero")
        return np.packbits(bits[:, :count].T, axis=1).reshape(shape_chw)
