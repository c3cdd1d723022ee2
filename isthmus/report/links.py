"""What the logs say of the link, as columns: the agent's beliefs, and the emulated link's true rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.events import LinkEvent, ShapeEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The agent's link events, once a second, in time order; NaN: unknown.

    `throttled` is 1 or 0. `energy_j` counts from the start of the run, by the meters `energy_sources`.
    """

    at_s: NDArray[np.float64]
    connected: NDArray[np.bool_]
    rate_bytes_per_s: NDArray[np.float64]
    rtt_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    temperature_c: NDArray[np.float64]
    throttled: NDArray[np.float64]
    energy_sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The true rates of an emulated link, each from its instant on, in time order."""

    at_s: NDArray[np.float64]
    rate_bytes_per_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.at_s)


def links_of(events: Iterable[LinkEvent]) -> Links:
    """Return link events as columns."""
    kept = sorted(events, key=lambda event: event.at_s)

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(event, name) for event in kept], dtype=np.float64)

    return Links(
        at_s=column("at_s"),
        connected=np.array([event.connected for event in kept], dtype=np.bool_),
        rate_bytes_per_s=column("rate_bytes_per_s"),
        rtt_s=column("rtt_s"),
        energy_j=column("energy_j"),
        temperature_c=column("temperature_c"),
        throttled=column("throttled"),
        energy_sources=tuple(dict.fromkeys(e.energy_source for e in kept if e.energy_source is not None)),
    )


def shapes_of(events: Iterable[ShapeEvent]) -> Shapes:
    """Return the rates of an emulated link as columns."""
    kept = sorted(events, key=lambda event: event.at_s)
    return Shapes(
        at_s=np.array([event.at_s for event in kept], dtype=np.float64),
        rate_bytes_per_s=np.array([event.rate_bytes_per_s for event in kept], dtype=np.float64),
    )


def join_links(parts: Iterable[Links]) -> Links:
    """Return the events of all `parts` in time order."""
    kept = list(parts) or [links_of([])]
    names = ("at_s", "connected", "rate_bytes_per_s", "rtt_s", "energy_j", "temperature_c", "throttled")
    columns = {name: np.concatenate([getattr(part, name) for part in kept]) for name in names}
    order = np.argsort(columns["at_s"], kind="stable")
    return Links(
        **{name: column[order] for name, column in columns.items()},
        energy_sources=tuple(dict.fromkeys(source for part in kept for source in part.energy_sources)),
    )


def join_shapes(parts: Iterable[Shapes]) -> Shapes:
    """Return the rates of all `parts` in time order."""
    kept = list(parts) or [shapes_of([])]
    at_s = np.concatenate([part.at_s for part in kept])
    order = np.argsort(at_s, kind="stable")
    rates = np.concatenate([part.rate_bytes_per_s for part in kept])
    return Shapes(at_s=at_s[order], rate_bytes_per_s=rates[order])
