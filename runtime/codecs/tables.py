"""Integer frequency tables and context networks: how likely a latent's values are, fixed at export.

Both ends read the same integers from `tables.npz`; nothing is recomputed from floating-point probabilities,
because two machines would not always round them alike. This module is the file, and refuses every one that
`fit` would not write; what the numbers mean is in `width_tables.py` and `contexts.py`.

One-dimensional arrays, one after the other for all widths: `channels` and `classes` per width; `parents` per
channel (`NO_NETWORK` without one); `parent`, `hidden_weight`, `hidden_bias`, `output_weight`, `output_bias`
of the networks; `first` and `size` per table, `frequency` per value and escape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs._npz import read_arrays, write_arrays
from isthmus.runtime.codecs.contexts import HIDDEN, MAX_PARENTS, PHASES, ContextNetwork, input_count
from isthmus.runtime.codecs.width_fitting import MAX_CLASSES, WidthFit, fit_widths
from isthmus.runtime.codecs.width_tables import ENTRIES, PRECISION, TOTAL, WidthTables
from isthmus.runtime.errors import BundleError, InputError

MAX_WIDTHS: Final = 256
NO_NETWORK: Final = 255

_SCHEMA: Final = 2
_MAX_BYTES: Final = 64 << 20
_DTYPES: Final = {
    "meta": "<u2",
    "channels": "<u2",
    "classes": "|u1",
    "parents": "|u1",
    "parent": "<u2",
    "hidden_weight": "<i2",
    "hidden_bias": "<i4",
    "output_weight": "<i2",
    "output_bias": "<i4",
    "first": "|u1",
    "size": "|u1",
    "frequency": "<u2",
}
_META: Final = [_SCHEMA, PRECISION]
_REMEDY: Final = "export the bundle again"

Arrays = Mapping[str, NDArray[np.generic]]


class FrequencyTables:
    """The tables of every width and channel; immutable, and named by the digest of their bytes."""

    def __init__(self, widths: Sequence[WidthTables], data: bytes) -> None:
        """Take verified `widths` and the `data` they were read from; use `fit` or `from_bytes`."""
        self._widths = tuple(widths)
        self._channels = tuple(len(width.networks) for width in self._widths)
        self._data = data
        self._digest = hashlib.sha256(data).digest()[:8]

    @classmethod
    def fit(cls, latents_per_width: Sequence[NDArray[np.uint8]], *, contexts: bool = True) -> FrequencyTables:
        """Fit tables to sample latents.

        Args:
            latents_per_width: For each width uint8 [N, C, H, W]; C may differ between widths.
            contexts: Whether to look for context networks, which takes most of the time.

        Raises:
            InputError: If there is no width, or a sample is empty or not uint8 [N, C, H, W].
        """
        if not 1 <= len(latents_per_width) <= MAX_WIDTHS:
            raise InputError(f"tables: {len(latents_per_width)} widths; give 1 to {MAX_WIDTHS}")
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
        return cls.from_bytes(write_arrays(_to_arrays(fit_widths(latents_per_width, contexts=contexts))))

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "tables.npz") -> FrequencyTables:
        """Read and verify tables; `source` is the name that errors give them.

        Raises:
            BundleError: If anything in `data` is not as `to_bytes` writes it.
        """
        if len(data) > _MAX_BYTES:
            raise BundleError(f"{source}: {len(data)} bytes, tables have at most {_MAX_BYTES}; {_REMEDY}")
        try:
            arrays = read_arrays(data, _DTYPES, _META)
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
        """The 8 bytes of `table_id`, which a payload's checksum covers."""
        return self._digest

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each width, by width index."""
        return self._channels

    def width(self, width_index: int) -> WidthTables:
        """Return the tables of a width."""
        return self._widths[width_index]

    def ideal_bits(self, latent_chw: NDArray[np.uint8], width_index: int) -> float:
        """Return the bits that a perfect coder needs for the c leading channels, uint8 [c, H, W]."""
        return self._widths[width_index].ideal_bits(latent_chw)


def _to_arrays(fits: Sequence[WidthFit]) -> dict[str, NDArray[np.generic]]:
    networks = [network for fit in fits for network in fit.networks]
    present = [network for network in networks if network is not None]
    columns: dict[str, list[NDArray[np.generic]]] = {
        "meta": [np.array(_META)],
        "channels": [np.array([len(fit.networks) for fit in fits])],
        "classes": [np.array([fit.classes for fit in fits])],
        "parents": [np.array([NO_NETWORK if net is None else len(net.parents) for net in networks])],
        "parent": [np.array(network.parents) for network in present],
        "hidden_weight": [network.hidden_weight.reshape(-1) for network in present],
        "hidden_bias": [network.hidden_bias for network in present],
        "output_weight": [network.output_weight.reshape(-1) for network in present],
        "output_bias": [network.output_bias for network in present],
        "first": [np.array([first for fit in fits for first, _ in fit.tables])],
        "size": [np.array([len(frequency) - 1 for fit in fits for _, frequency in fit.tables])],
        "frequency": [frequency for fit in fits for _, frequency in fit.tables],
    }
    return {
        name: np.concatenate([np.empty(0, dtype), *(part.astype(dtype) for part in columns[name])])
        for name, dtype in _DTYPES.items()
    }


def _verified(arrays: Arrays) -> list[WidthTables]:
    """Check what the types cannot say; ValueError where a value contradicts another."""
    channels, classes = arrays["channels"].astype(np.int64), arrays["classes"].astype(np.int64)
    if not 1 <= len(channels) <= MAX_WIDTHS or channels.min() < 1:
        raise ValueError(f"{len(channels)} widths, or a width without channels")
    if len(classes) != len(channels) or classes.max() > MAX_CLASSES:
        raise ValueError(f"{len(classes)} numbers of classes, or one above {MAX_CLASSES}")
    networks = _networks(arrays, channels)
    owned = []
    for count, own in zip(classes.tolist(), networks, strict=True):
        if (count == 0) != all(network is None for network in own):
            raise ValueError("a width has networks without classes, or classes without networks")
        owned.append(PHASES * count + sum(network is None for network in own))
    first, size = arrays["first"].astype(np.int64), arrays["size"].astype(np.int64)
    if len(first) != sum(owned) or len(size) != sum(owned):
        raise ValueError(f"{len(first)} windows for {sum(owned)} tables")
    cumulative = _cumulative(first, size, arrays["frequency"].astype(np.int64))
    ends = np.cumsum(owned)
    return [
        WidthTables(
            first=first[end - count : end].astype(np.uint8),
            size=size[end - count : end].astype(np.uint8),
            cumulative=cumulative[end - count : end].astype(np.uint16),
            networks=own,
            classes=number,
        )
        for end, count, own, number in zip(ends, owned, networks, classes.tolist(), strict=True)
    ]


def _cumulative(
    first: NDArray[np.int64], size: NDArray[np.int64], frequency: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return int64 [T, 257]: each window's running sum, then `TOTAL` up to the end."""
    if size.min() < 1 or (first + size).max() > 256:
        raise ValueError("a window is empty or passes 255")
    if len(frequency) != (size + 1).sum() or frequency.min() < 1:
        raise ValueError("a frequency is zero, or their number does not match the windows")
    starts = np.concatenate([[0], np.cumsum(size + 1)[:-1]])
    if (np.add.reduceat(frequency, starts) != TOTAL).any():
        raise ValueError(f"the frequencies of a table do not add up to {TOTAL}")
    cumulative = np.full((len(first), ENTRIES), TOTAL, dtype=np.int64)
    for row, begin, entries in zip(cumulative, starts, size + 1, strict=True):
        row[0] = 0
        row[1 : entries + 1] = np.cumsum(frequency[begin : begin + entries])
    return cumulative


def _networks(arrays: Arrays, channels: NDArray[np.int64]) -> list[list[ContextNetwork | None]]:
    """Return the networks of each width's channels; ValueError if they do not use up the arrays exactly."""
    parents = arrays["parents"].astype(np.int64)
    if len(parents) != channels.sum() or (parents[parents != NO_NETWORK] > MAX_PARENTS).any():
        raise ValueError(f"{len(parents)} numbers of parents for {channels.sum()} channels, or too many")
    present = parents[parents != NO_NETWORK]
    inputs = sum(input_count(count) for count in present.tolist())
    for name, expected in (
        ("parent", int(present.sum())),
        ("hidden_weight", inputs * HIDDEN),
        ("hidden_bias", len(present) * HIDDEN),
        ("output_weight", len(present) * HIDDEN * 2),
        ("output_bias", len(present) * 2),
    ):
        if len(arrays[name]) != expected:
            raise ValueError(f"{name} has {len(arrays[name])} numbers, the networks need {expected}")
    rest = {name: arrays[name] for name in ("parent", *_WEIGHTS)}

    def cut(name: str, count: int) -> NDArray[np.generic]:
        found, rest[name] = rest[name][:count], rest[name][count:]
        return found

    found: list[list[ContextNetwork | None]] = []
    numbers = iter(parents.tolist())
    for count in channels.tolist():
        own: list[ContextNetwork | None] = []
        for channel in range(count):
            number = next(numbers)
            if number == NO_NETWORK:
                own.append(None)
                continue
            chosen = tuple(cut("parent", number).tolist())
            if list(chosen) != sorted(set(chosen)) or (chosen and chosen[-1] >= channel):
                raise ValueError(f"the parents of channel {channel} are not earlier channels in their order")
            own.append(
                ContextNetwork(
                    parents=chosen,
                    hidden_weight=cut("hidden_weight", input_count(number) * HIDDEN)
                    .reshape(-1, HIDDEN)
                    .astype(np.int16),
                    hidden_bias=cut("hidden_bias", HIDDEN).astype(np.int32),
                    output_weight=cut("output_weight", HIDDEN * 2).reshape(HIDDEN, 2).astype(np.int16),
                    output_bias=cut("output_bias", 2).astype(np.int32),
                )
            )
        found.append(own)
    return found


_WEIGHTS: Final = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")
