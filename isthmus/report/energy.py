"""Joules of a run, per frame, and what they went to. Pure.

A meter tells the whole. What of it the device would have drawn doing nothing is known if it was measured
before the run; what the radio took is a model, always; the rest is taken for computing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.report.links import Links
from isthmus.report.tally import FrameTally
from isthmus.runtime.control import DEFAULT_OVERHEAD_BYTES
from isthmus.runtime.energy import RadioModel

# Meters count in steps, and a device's load comes in bursts: shorter windows show the meter, not the run.
_LEAST_WINDOW_S = 5.0
_MOST_WINDOWS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerWindow:
    """Mean watts over a stretch of the run, seconds since its start, and joules per frame captured in it."""

    start_s: float
    end_s: float
    power_w: float
    per_frame_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyUse:
    """What a run cost.

    Attributes:
        source: The meter.
        measured: False if the joules are modelled, or some of them.
        total_j, seconds, frames: Over the part of the run that the meter covers.
        per_frame_j, power_w: Their ratios.
        idle_j: What the device would have drawn in that time doing nothing; None: not measured.
        radio_j: Modelled from bytes sent and the radio's tail; None without a model. Bytes received are not
            in the log and not in this.
        radio_source: Where the model's figures come from.
        compute_j: The rest; None unless `idle_j` is known. Below 0 if idle and radio exceed the meter.
        windows: Over time.
    """

    source: str
    measured: bool
    total_j: float
    seconds: float
    frames: int
    per_frame_j: float | None
    power_w: float
    idle_j: float | None
    radio_j: float | None
    radio_source: str | None
    compute_j: float | None
    windows: tuple[PowerWindow, ...]


def energy_use(
    links: Links, tally: FrameTally, *, start_s: float, idle_w: float | None, radio: RadioModel | None
) -> EnergyUse | None:
    """Return what the run cost, or None if no meter was read.

    Args:
        links: Link events, which carry the meter's count.
        tally: The frames.
        start_s: The start of the run, where the meter began to count.
        idle_w: Watts before the run.
        radio: The device's radio.
    """
    known = ~np.isnan(links.energy_j)
    if not bool(known.any()):
        return None
    at_s = np.concatenate([[min(start_s, float(links.at_s[known][0]))], links.at_s[known]])
    steps_j = np.diff(np.concatenate([[0.0], links.energy_j[known]]))
    # A count that falls is a meter that began anew: from there it counts from 0 again.
    steps_j = np.where(steps_j < 0, links.energy_j[known], steps_j)
    spent_j = np.concatenate([[0.0], np.cumsum(steps_j)])
    total_j, seconds = float(spent_j[-1]), float(at_s[-1] - at_s[0])
    if seconds <= 0:
        return None
    frames = _captured_until(tally, float(at_s[-1]))
    idle_j = None if idle_w is None else idle_w * seconds
    radio_j = None if radio is None else _radio_j(radio, tally)
    rest_j = None if idle_j is None else total_j - idle_j - (radio_j or 0.0)
    return EnergyUse(
        source=", ".join(links.energy_sources) or "unknown",
        measured=not any(source.startswith("model:") for source in links.energy_sources),
        total_j=total_j,
        seconds=seconds,
        frames=frames,
        per_frame_j=total_j / frames if frames else None,
        power_w=total_j / seconds,
        idle_j=idle_j,
        radio_j=radio_j,
        radio_source=None if radio is None else f"{radio.source}: {radio.origin}".rstrip(": "),
        compute_j=rest_j,
        windows=_windows(at_s, spent_j, tally),
    )


def _radio_j(radio: RadioModel, tally: FrameTally) -> float:
    sent = float(tally.sums["sent"].sum())
    nbytes = float(tally.sums["payload_bytes"].sum()) + sent * DEFAULT_OVERHEAD_BYTES
    return nbytes * radio.transmit_j_per_byte + radio.tail_w * tally.radio_awake_s


def _captured_until(tally: FrameTally, at_s: float) -> int:
    starts_s = tally.moments.edges_s()[:-1]
    return int(tally.moments.counts[starts_s <= at_s].sum())


def _windows(
    at_s: NDArray[np.float64], spent_j: NDArray[np.float64], tally: FrameTally
) -> tuple[PowerWindow, ...]:
    """Return means over windows that begin and end where the meter was read."""
    least_s = max(_LEAST_WINDOW_S, float(at_s[-1] - at_s[0]) / _MOST_WINDOWS)
    found, begin = [], 0
    while begin < len(at_s) - 1:
        end = int(np.searchsorted(at_s, at_s[begin] + least_s * (1 - 1e-9)))
        if end >= len(at_s):
            break
        frames = _captured_until(tally, float(at_s[end])) - _captured_until(tally, float(at_s[begin]))
        joules, seconds = float(spent_j[end] - spent_j[begin]), float(at_s[end] - at_s[begin])
        found.append(
            PowerWindow(
                start_s=float(at_s[begin] - at_s[0]),
                end_s=float(at_s[end] - at_s[0]),
                power_w=joules / seconds,
                per_frame_j=joules / frames if frames else None,
            )
        )
        begin = end
    return tuple(found)
