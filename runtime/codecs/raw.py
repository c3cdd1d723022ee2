"""The latent as it is: the baseline, and what a device without spare cycles sends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.tables import FrequencyTables
from isthmus.runtime.errors import PayloadError


@dataclass(frozen=True, slots=True)
class RawCodec:
    """One byte a symbol, channel-major."""

    name: str = "raw"
    codec_id: int = 1
    needs_tables: bool = False

    def encode(
        self, latent_chw: NDArray[np.uint8], tables: FrequencyTables | None, width_index: int
    ) -> bytes:
        """See `Codec.encode`."""
        return latent_chw.tobytes()

    def decode(
        self,
        body: bytes | memoryview,
        shape_chw: tuple[int, int, int],
        tables: FrequencyTables | None,
        width_index: int,
    ) -> NDArray[np.uint8]:
        """See `Codec.decode`."""
        if len(body) != math.prod(shape_chw):
            raise PayloadError(
                f"payload: raw body of {len(body)} bytes for a latent of {math.prod(shape_chw)}"
            )
        return np.frombuffer(bytearray(body), dtype=np.uint8).reshape(shape_chw)
