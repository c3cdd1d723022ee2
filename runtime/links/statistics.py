"""What a trace is like: how much it carries, how evenly, and how long it carries nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.runtime.links.trace import RateTrace

BIN_S = 0.1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """One pass of a trace in figures.

    Attributes:
        duration_s: Seconds until it repeats.
        mean_rate, peak_rate: Bytes per second; the peak is that of a single segment.
        quantiles: Share → bytes per second, of the mean rates of 100-ms bins.
        empty_share: Share of 100-ms bins in which no byte passes.
        longest_outage_s: The longest stretch without a byte within one pass.
        outages: Stretches of at least 100 ms without a byte.
    """

    duration_s: float
    mean_rate: float
    peak_rate: float
    quantiles: dict[float, float]
    empty_share: float
    longest_outage_s: float
    outages: int


def describe_trace(trace: RateTrace) -> TraceFacts:
    """Return the facts of one pass of `trace`."""
    rates = binned_rates(trace, BIN_S)
    silences = _silences_s(trace)
    return TraceFacts(
        duration_s=trace.duration_s,
        mean_rate=trace.mean_rate,
        peak_rate=trace.peak_rate,
        quantiles={share: float(np.quantile(rates, share)) for share in QUANTILES},
        empty_share=float((rates == 0.0).mean()),
        longest_outage_s=max(silences, default=0.0),
        outages=sum(silence_s >= BIN_S - 1e-9 for silence_s in silences),
    )


def binned_rates(trace: RateTrace, bin_s: float) -> NDArray[np.float64]:
    """Return the mean bytes per second of every bin of `bin_s` seconds that fits one pass, at least one.

    A trace shorter than a bin is one bin, averaged over the trace itself.
    """
    starts_s, rates = (np.array(column) for column in zip(*trace.segments(), strict=True))
    edges_s = np.append(starts_s, trace.duration_s)
    carried = np.concatenate([[0.0], np.cumsum(np.diff(edges_s) * rates)])
    count = int(trace.duration_s / bin_s + 1e-9)
    if count == 0:
        return np.array([trace.mean_rate])
    at_edges = np.interp(np.arange(count + 1) * bin_s, edges_s, carried)
    means: NDArray[np.float64] = np.diff(at_edges) / bin_s
    # Rounding of the sums must not turn silence into a few attobytes.
    means[means < 1e-9 * max(trace.peak_rate, 1e-300)] = 0.0
    return means


def _silences_s(trace: RateTrace) -> list[float]:
    segments = trace.segments()
    ends_s = [start_s for start_s, _ in segments[1:]] + [trace.duration_s]
    # Neighbours of equal rate are one segment, so every silence is one.
    return [end_s - start_s for (start_s, rate), end_s in zip(segments, ends_s, strict=True) if rate == 0]
