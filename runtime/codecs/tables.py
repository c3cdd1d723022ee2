"""Integer frequency tables: how likely each value of each latent channel is, fixed at export.

Both ends read the same integers from `tables.npz`; nothing is recomputed from floating-point probabilities,
because two machines would not always round them alike. A channel's table is a window of consecutive values
and an escape for all others, with frequencies that add up to `TOTAL`.

`PRECISION` is 12: on Laplace latents of 67 to 6,000 bytes, frequencies in 1/4096 cost 0.05 to 0.07 % more
bytes than in 1/65536, and the decoder's slot table is 4 KiB a channel instead of 64, so that one latent's
worth stays in a small L2 cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs._npz import read_arrays, write_arrays
from isthmus.runtime.codecs.fitting import fit_channel
from isthmus.runtime.errors import BundleError, InputError

PRECISION: Final = 12
TOTAL: Final = 1 << PRECISION
MAX_WINDOW: Final = 255  # an index into a window, the escape included, fits a byte
MAX_WIDTHS: Final = 256  # the width index is one byte of a payload
ENTRIES: Final = MAX_WINDOW + 2  # cumulative frequencies: the window, the escape, the end

_SCHEMA: Final = 1
_MAX_BYTES: Final = 64 << 20
_DTYPES: Final = {"meta": "<u2", "channels": "<u2", "first": "|u1", "size": "|u1", "frequency": "<u2"}
_REMEDY: Final = "export the bundle again"


@dataclass(frozen=True)
class WidthTables:
    """The tables of one width.

    Attributes:
        first: uint8 [C], the lowest value of each channel's window.
        size: uint8 [C], values in the window, 1 to 255.
        cumulative: uint16 [C, 257], where each value's slots start; entry `size` is where the escape's start,
            all after it are `TOTAL`.
    """

    first: NDArray[np.uint8]
    size: NDArray[np.uint8]
    cumulative: NDArray[np.uint16]

    def __post_init__(self) -> None:
        for array in (self.first, self.size, self.cumulative):
            array.flags.writeable = False

    @cached_property
    def packed(self) -> bytes:
        """Return what the C coder reads: per channel first, size and cumulative as little-endian uint16."""
        block = np.empty((len(self.first), 2 + ENTRIES), dtype="<u2")
        block[:, 0], block[:, 1], block[:, 2:] = self.first, self.size, self.cumulative
        return block.tobytes()

    @cached_property
    def slots(self) -> bytes:
        """Return uint8 [C, TOTAL]: the window index (escape: `size`) that owns each slot."""
        indices = np.arange(ENTRIES - 1, dtype=np.uint8)
        widths = np.diff(self.cumulative.astype(np.int64), axis=1)
        return b"".join(np.repeat(indices, width).tobytes() for width in widths)

    @cached_property
    def bits(self) -> NDArray[np.float64]:
        """Return float64 [C, 256]: what each value costs, escapes with their 8 raw bits."""
        cost = np.empty((len(self.first), 256), dtype=np.float64)
        for channel, (first, size) in enumerate(zip(self.first.tolist(), self.size.tolist(), strict=True)):
            frequency = np.diff(self.cumulative[channel, : size + 2].astype(np.float64))
            own = PRECISION - np.log2(frequency)
            cost[channel] = own[size] + 8.0
            cost[channel, first : first + size] = own[:size]
        return cost


class FrequencyTables:
    """The tables of every width and channel; immutable, and named by the digest of their bytes."""

    def __init__(self, widths: Sequence[WidthTables], data: bytes) -> None:
        """Take verified `widths` and the `data` they were read from; use `fit` or `from_bytes`."""
        self._widths = tuple(widths)
        self._data = data
        self._digest = hashlib.sha256(data).digest()[:8]

    @classmethod
    def fit(cls, latents_per_width: Sequence[NDArray[np.uint8]]) -> FrequencyTables:
        """Fit tables to sample latents.

        Args:
            latents_per_width: For each width uint8 [N, C, H, W]; C may differ between widths.

        Raises:
            InputError: If there is no width, or a sample is empty or not uint8 [N, C, H, W].
        """
        if not 1 <= len(latents_per_width) <= MAX_WIDTHS:
            raise InputError(f"tables: {len(latents_per_width)} widths; give 1 to {MAX_WIDTHS}")
        first: list[int] = []
        frequencies: list[NDArray[np.uint16]] = []
        channels: list[int] = []
        for index, latents in enumerate(latents_per_width):
            if (
                latents.dtype != np.uint8
                or latents.ndim != 4
                or latents.size == 0
                or latents.shape[1] > 0xFFFF
            ):
                raise InputError(
                    f"tables: sample of width {index} is {latents.dtype} {latents.shape}; "
                    "give uint8 [N, C, H, W], not empty"
                )
            channels.append(latents.shape[1])
            for channel in range(latents.shape[1]):
                counts = np.bincount(latents[:, channel].reshape(-1), minlength=256)
                lowest, frequency = fit_channel(counts, total=TOTAL, max_window=MAX_WINDOW)
                first.append(lowest)
                frequencies.append(frequency.astype(np.uint16))
        arrays = {
            "meta": np.array([_SCHEMA, PRECISION]),
            "channels": np.array(channels),
            "first": np.array(first),
            "size": np.array([len(frequency) - 1 for frequency in frequencies]),
            "frequency": np.concatenate(frequencies),
        }
        return cls.from_bytes(
            write_arrays({name: arrays[name].astype(dtype) for name, dtype in _DTYPES.items()})
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "tables.npz") -> FrequencyTables:
        """Read and verify tables; `source` is the name that errors give them.

        Raises:
            BundleError: If anything in `data` is not as `to_bytes` writes it.
        """
        if len(data) > _MAX_BYTES:
            raise BundleError(f"{source}: {len(data)} bytes, tables have at most {_MAX_BYTES}; {_REMEDY}")
        try:
            arrays = read_arrays(data, _DTYPES)
            return cls(_verified(arrays), data)
        except ValueError as error:
            raise BundleError(f"{source}: not frequency tables: {error}; {_REMEDY}") from None

    def to_bytes(self) -> bytes:
        """Return the npz file: the same tables always give the same bytes."""
        return self._data

    @property
    def table_id(self) -> str:
        """The first 8 bytes of the SHA-256 of `to_bytes()`, in hex."""
        return self._digest.hex()

    @property
    def digest(self) -> bytes:
        """The 8 bytes of `table_id`, as a payload carries them."""
        return self._digest

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each width, by width index."""
        return tuple(len(width.first) for width in self._widths)

    def width(self, width_index: int) -> WidthTables:
        """Return the tables of a width."""
        return self._widths[width_index]

    def ideal_bits(self, latent_chw: NDArray[np.uint8], width_index: int) -> float:
        """Return the bits that a perfect coder needs for the c leading channels, uint8 [c, H, W]."""
        channels = latent_chw.shape[0]
        bits = self._widths[width_index].bits[:channels]
        return float(np.take_along_axis(bits, latent_chw.reshape(channels, -1).astype(np.intp), axis=1).sum())


def _verified(arrays: dict[str, NDArray[np.generic]]) -> list[WidthTables]:
    """Check what the types cannot say; ValueError where a value contradicts another."""
    meta, channels = arrays["meta"].tolist(), arrays["channels"].astype(np.int64)
    if meta != [_SCHEMA, PRECISION]:
        raise ValueError(f"schema and precision {meta}, this Isthmus reads {[_SCHEMA, PRECISION]}")
    if not 1 <= len(channels) <= MAX_WIDTHS or channels.min() < 1:
        raise ValueError(f"{len(channels)} widths, or a width without channels")
    first, size = arrays["first"].astype(np.int64), arrays["size"].astype(np.int64)
    frequency = arrays["frequency"].astype(np.int64)
    if len(first) != channels.sum() or len(size) != channels.sum():
        raise ValueError(f"{len(first)} windows for {channels.sum()} channels")
    if size.min() < 1 or (first + size).max() > 256:
        raise ValueError("a window is empty or passes 255")
    if len(frequency) != (size + 1).sum() or frequency.min() < 1:
        raise ValueError("a frequency is zero, or their number does not match the windows")
    starts = np.concatenate([[0], np.cumsum(size + 1)[:-1]])
    if (np.add.reduceat(frequency, starts) != TOTAL).any():
        raise ValueError(f"the frequencies of a channel do not add up to {TOTAL}")
    # One dense row a channel: the window's running sum, then TOTAL up to the end.
    cumulative = np.full((len(first), ENTRIES), TOTAL, dtype=np.int64)
    for row, begin, entries in zip(cumulative, starts, size + 1, strict=True):
        row[0] = 0
        row[1 : entries + 1] = np.cumsum(frequency[begin : begin + entries])
    ends = np.cumsum(channels)
    return [
        WidthTables(
            first=first[end - count : end].astype(np.uint8),
            size=size[end - count : end].astype(np.uint8),
            cumulative=cumulative[end - count : end].astype(np.uint16),
        )
        for end, count in zip(ends, channels, strict=True)
    ]
