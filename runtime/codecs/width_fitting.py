"""Fit the tables of every width: which channels get a context network, and the tables of all contexts.

A network must earn its place: on latents kept out of its fit it has to cost `_WORTH` less than the channel's
own table. Independent or nearly constant channels keep their table, and so does every channel of a sample
too small to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.codecs.contexts import PHASES, ContextNetwork, choose, gather, pad
from isthmus.runtime.codecs.fitting import fit_channel
from isthmus.runtime.codecs.network_fitting import FloatNetwork, fit_network, kept_out
from isthmus.runtime.codecs.width_tables import MAX_WINDOW, TOTAL

MAX_CLASSES: Final = 64
_ENOUGH: Final = 1 << 15  # values of a channel; a network of 900 weights fitted to fewer is mostly noise
_AT_MOST: Final = 1 << 17  # values of a channel that a network is fitted to
_WORTH: Final = 0.01  # share of the channel's bits
_WORTH_BITS: Final = 0.002  # and bits a value: less is not worth the decoder's time
_PRIOR: Final = 8.0  # values that a context's neighbours count for
_CHUNK: Final = 1 << 14  # values at a time: what is computed of them stays in the cache

Table = tuple[int, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class WidthFit:
    """What `WidthTables` is made of.

    Attributes:
        networks: Per channel, None without one.
        classes: Scale classes.
        tables: Lowest value and frequencies (the escape's last), in the order of `WidthTables`.
    """

    networks: list[ContextNetwork | None]
    classes: int
    tables: list[Table]


def fit_widths(latents_per_width: Sequence[NDArray[np.uint8]], *, contexts: bool) -> list[WidthFit]:
    """Return the fit of each width to its sample uint8 [N, C, H, W]; a width goes on from the one before."""
    starts: dict[int, FloatNetwork] = {}
    found = []
    for latents in latents_per_width:
        networks: list[ContextNetwork | None] = [None] * latents.shape[1]
        if contexts:
            networks = _fit_networks(latents, starts)
        found.append(_fit_tables(latents, networks))
    return found


def _fit_tables(latents: NDArray[np.uint8], networks: list[ContextNetwork | None]) -> WidthFit:
    counts = np.zeros((MAX_CLASSES * PHASES, 256), dtype=np.int64)
    own: list[Table] = []
    for channel, network in enumerate(networks):
        if network is None:
            own.append(_table(np.bincount(latents[:, channel].reshape(-1), minlength=256)))
        else:
            counts += _count(latents, channel, network)
    classes = 0
    if counts.any():
        classes = 1 + int(np.flatnonzero(counts.any(axis=1))[-1]) // PHASES
    shared = _smoothed(counts.reshape(MAX_CLASSES, PHASES, 256)[:classes])
    return WidthFit(networks, classes, [_table(row) for row in shared.reshape(-1, 256)] + own)


def _fit_networks(latents: NDArray[np.uint8], starts: dict[int, FloatNetwork]) -> list[ContextNetwork | None]:
    number, channels, height, width = latents.shape
    found: list[ContextNetwork | None] = [None] * channels
    if number < 16 or number * height * width < _ENOUGH:
        return found
    # Spread over the sample: it may be in an order.
    few = min(number, max(16, _AT_MOST // (height * width)))
    padded = pad(latents[np.linspace(0, number - 1, few).astype(np.intp)])
    for channel in range(channels):
        alone = _cost_alone(padded[:, 1 + channel, 1:-1, 1:-1])
        if alone < 2 * _WORTH_BITS:
            continue
        network, bits = fit_network(padded, channel, starts.get(channel))
        starts[channel] = network
        if alone - bits > max(_WORTH * alone, _WORTH_BITS):
            found[channel] = network.rounded()
    return found


def _cost_alone(values: NDArray[np.int16]) -> float:
    """Return the bits a value that a channel's own table costs, on the latents a network is judged by."""
    kept = kept_out(len(values))
    seen, unseen = (
        np.bincount(part.reshape(-1).astype(np.int64) + 128, minlength=256)
        for part in (values[~kept], values[kept])
    )
    share = (seen + 1 / 256) / (seen.sum() + 1)
    return float(-(unseen @ np.log2(share)) / unseen.sum())


def _count(latents: NDArray[np.uint8], channel: int, network: ContextNetwork) -> NDArray[np.int64]:
    """Return int64 [classes · phases, 256]: how often each context meets each difference."""
    counts = np.zeros(MAX_CLASSES * PHASES * 256, dtype=np.int64)
    step = max(1, _CHUNK // (latents.shape[2] * latents.shape[3]))
    for begin in range(0, len(latents), step):
        part = latents[begin : begin + step]
        outputs = network.outputs(gather(pad(part), channel, network.parents))
        table, level = choose(*outputs, MAX_CLASSES)
        difference = part[:, channel].reshape(-1) - level & 0xFF
        counts += np.bincount(table * 256 + difference, minlength=len(counts))
    return counts.reshape(-1, 256)


def _smoothed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64 [classes, phases, 256] with a few values of the neighbouring classes; none is empty."""
    near = counts.astype(np.float64)
    near[1:] += 0.1 * counts[:-1]
    near[:-1] += 0.1 * counts[1:]
    near = np.where(near.sum(axis=2, keepdims=True) > 0, near, counts.sum(axis=(0, 1)))
    prior = np.rint(_PRIOR * near / np.maximum(near.sum(axis=2, keepdims=True), 1)).astype(np.int64)
    prior = np.maximum(prior, near == near.max(axis=2, keepdims=True))
    smoothed: NDArray[np.int64] = counts + prior
    return smoothed


def _table(counts: NDArray[np.int64]) -> Table:
    return fit_channel(counts, total=TOTAL, max_window=MAX_WINDOW)
