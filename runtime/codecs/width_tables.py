"""One width's tables: what each channel's next value costs, in the forms that the coders read.

A table is a window of consecutive values and an escape for all others, with frequencies that add up to
`TOTAL`. The first `PHASES * classes` tables belong to the contexts of `contexts.py` and hold differences from
the expected value; the rest belong to the channels without a network, in their order, and hold values.

`PRECISION` is 12: on Laplace latents of 67 to 6,000 bytes, frequencies in 1/4096 cost 0.05 to 0.07 % more
bytes than in 1/65536, and the decoder's slot table is 4 KiB a table instead of 64, so that one latent's
worth stays in a small L2 cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.contexts import PHASES, ContextNetwork, choose, gather, pack, pad

PRECISION: Final = 12
TOTAL: Final = 1 << PRECISION
MAX_WINDOW: Final = 255  # an index into a window, the escape included, fits a byte
ENTRIES: Final = MAX_WINDOW + 2  # cumulative frequencies: the window, the escape, the end


@dataclass(frozen=True)
class WidthTables:
    """The tables of one width.

    Attributes:
        first: uint8 [T], the lowest value of each table's window.
        size: uint8 [T], values in the window, 1 to 255.
        cumulative: uint16 [T, 257], the running sum of the frequencies; entry `size` is where the escape's
            begin, all after it are `TOTAL`.
        networks: For each channel its context network, None without one.
        classes: Scale classes of the contexts, 0 if no channel has a network.
    """

    first: NDArray[np.uint8]
    size: NDArray[np.uint8]
    cumulative: NDArray[np.uint16]
    networks: Sequence[ContextNetwork | None]
    classes: int

    def __post_init__(self) -> None:
        for array in (self.first, self.size, self.cumulative):
            array.flags.writeable = False

    @cached_property
    def rows(self) -> list[list[int]]:
        """Return `cumulative` as Python's integers, which single look-ups are faster in."""
        found: list[list[int]] = self.cumulative.tolist()
        return found

    @cached_property
    def packed(self) -> bytes:
        """Return per table first, size and cumulative as little-endian uint16, for the C coder."""
        block = np.empty((len(self.first), 2 + ENTRIES), dtype="<u2")
        block[:, 0], block[:, 1], block[:, 2:] = self.first, self.size, self.cumulative
        return block.tobytes()

    @cached_property
    def slots(self) -> bytes:
        """Return uint8 [T, TOTAL]: the window index (escape: `size`) that owns each slot."""
        indices = np.arange(ENTRIES - 1, dtype=np.uint8)
        widths = np.diff(self.cumulative.astype(np.int64), axis=1)
        return b"".join(np.repeat(indices, width).tobytes() for width in widths)

    @cached_property
    def programs(self) -> bytes:
        """Return the channels' networks, as the C coder reads them."""
        return b"".join(
            pack(network, table, self.classes)
            for network, table in zip(self.networks, self.own_table, strict=True)
        )

    @cached_property
    def own_table(self) -> tuple[int, ...]:
        """Return the table of each channel without a network; of the others, the one that would be next."""
        without = np.cumsum([0] + [network is None for network in self.networks[:-1]])
        return tuple((PHASES * self.classes + without).tolist())

    @cached_property
    def bits(self) -> NDArray[np.float64]:
        """Return float64 [T, 256]: what each value costs, escapes with their 8 raw bits."""
        cost = np.empty((len(self.first), 256), dtype=np.float64)
        for table, (first, size) in enumerate(zip(self.first.tolist(), self.size.tolist(), strict=True)):
            frequency = np.diff(self.cumulative[table, : size + 2].astype(np.float64))
            own = PRECISION - np.log2(frequency)
            cost[table] = own[size] + 8.0
            cost[table, first : first + size] = own[:size]
        return cost

    def contexts(self, latent_chw: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return table and level int64 [c, H·W] of a latent's c leading channels.

        What is coded of a value is its difference from the level, modulo 256.
        """
        channels, height, width = latent_chw.shape
        table = np.empty((channels, height * width), dtype=np.int64)
        level = np.zeros_like(table)
        padded = pad(latent_chw[None])
        for channel, network in enumerate(self.networks[:channels]):
            if network is None:
                table[channel] = self.own_table[channel]
            else:
                outputs = network.outputs(gather(padded, channel, network.parents))
                table[channel], level[channel] = choose(*outputs, self.classes)
        return table, level

    def ideal_bits(self, latent_chw: NDArray[np.uint8]) -> float:
        """Return the bits that a perfect coder needs for a latent's c leading channels, uint8 [c, H, W]."""
        table, level = self.contexts(latent_chw)
        difference = latent_chw.reshape(table.shape) - level & 0xFF
        return float(self.bits[table, difference].sum())
