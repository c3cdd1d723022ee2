"""The seam between a latent and its bytes: what every codec is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.tables import FrequencyTables


class Codec(Protocol):
    """A stateless coder of uint8 latents.

    `name` and `codec_id` (1 to 15) never change meaning within a version of the payload.
    """

    @property
    def name(self) -> str:
        """The name in manifests and on the command line."""

    @property
    def codec_id(self) -> int:
        """The number on the wire."""

    @property
    def needs_tables(self) -> bool:
        """Whether the body can only be read with the bundle's frequency tables."""

    def encode(
        self, latent_chw: NDArray[np.uint8], tables: FrequencyTables | None, width_index: int
    ) -> bytes:
        """Return the body of uint8 [c, H, W], not empty: the c leading channels of a latent of `width_index`.

        Raises:
            InputError: If `tables` lack that width or that many channels.
        """

    def decode(
        self,
        body: bytes | memoryview,
        shape_chw: tuple[int, int, int],
        tables: FrequencyTables | None,
        width_index: int,
    ) -> NDArray[np.uint8]:
        """Return the uint8 latent of `shape_chw`, writable.

        What it allocates is in proportion to `shape_chw` and `body`, whatever the body claims.

        Raises:
            PayloadError: If `body` is not what `encode` gives for any latent of that shape.
        """
