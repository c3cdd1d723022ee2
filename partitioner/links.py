"""How long bytes take over a link: one rate for ever, or a rate that a trace has varying.

Pure. Over a trace a frame may start at any instant with equal chance; it waits out silences and crosses
changes of rate as real bytes do. What a plan quotes of that are its mean, its quantiles and the share that
is on time. The search knows only rates: it gets those that bytes of a typical size effectively meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.partitioner.facts import LinkProfile, LinkTrace
from isthmus.partitioner.search import Link
from isthmus.runtime.errors import InputError
from isthmus.runtime.links import RateTrace, describe_trace

# Instants at which a frame may start, evenly over one pass of a trace.
_STARTS = 2000
# The search weighs every candidate at every rate, so that it gets few: means of equally likely groups.
_RATES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLink:
    """A link whose rate follows a trace.

    Attributes:
        trace: The rate over time; it repeats for ever.
        rtt_s: Seconds of a round trip, paid once by every frame that needs the server.

    Raises:
        InputError: If the RTT is negative or not finite.
    """

    trace: RateTrace
    rtt_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.rtt_s < math.inf:
            raise InputError(f"link: RTT {self.rtt_s} s is not 0 or more; give it as e.g. 20ms")


class Crossing(Protocol):
    """How long bytes take, the RTT included."""

    @property
    def facts(self) -> LinkProfile:
        """What a plan quotes of the link."""

    def mean_s(self, nbytes: int) -> float | None:
        """Return the mean seconds of `nbytes` over all instants to start, or None if they never arrive."""

    def samples_s(self, nbytes: int) -> NDArray[np.float64]:
        """Return the seconds of `nbytes` at equally likely instants; infinite where they never arrive."""

    def for_search(self, nbytes: int) -> Link:
        """Return the rates as the search takes them, for payloads of about `nbytes`."""


class ConstantCrossing:
    """A link of one rate."""

    def __init__(self, link: LinkProfile) -> None:
        self.facts = link

    def mean_s(self, nbytes: int) -> float | None:
        """Return the seconds of `nbytes`, or None over a dead link."""
        rate = self.facts.rate_bytes_per_s
        return None if rate == 0 else nbytes / rate + self.facts.rtt_s

    def samples_s(self, nbytes: int) -> NDArray[np.float64]:
        """Return the one time that `nbytes` take."""
        seconds = self.mean_s(nbytes)
        return np.array([math.inf if seconds is None else seconds])

    def for_search(self, nbytes: int) -> Link:
        """Return the rate."""
        return Link.constant(self.facts.rate_bytes_per_s, self.facts.rtt_s)


class TraceCrossing:
    """A link whose rate follows a trace."""

    def __init__(self, link: TraceLink) -> None:
        trace = link.trace
        self._starts_s, self._rates = (np.array(part) for part in zip(*trace.segments(), strict=True))
        edges_s = np.append(self._starts_s, trace.duration_s)
        self._carried = np.concatenate([[0.0], np.cumsum(np.diff(edges_s) * self._rates)])
        self._edges_s, self._trace = edges_s, trace
        self._known: dict[int, NDArray[np.float64]] = {}
        described = describe_trace(trace)
        dead_s = float(np.diff(edges_s)[self._rates == 0].sum())
        self.facts = LinkProfile(
            rate_bytes_per_s=trace.mean_rate,
            rtt_s=link.rtt_s,
            trace=LinkTrace(
                name=trace.name,
                duration_s=trace.duration_s,
                dead_share=min(1.0, dead_s / trace.duration_s),
                quantiles=tuple(described.quantiles.items()),
            ),
        )

    def mean_s(self, nbytes: int) -> float | None:
        """Return the mean seconds of `nbytes`, or None if the trace never carries anything."""
        mean_s = float(self.samples_s(nbytes).mean())
        return mean_s if math.isfinite(mean_s) else None

    def samples_s(self, nbytes: int) -> NDArray[np.float64]:
        """Return the seconds that `nbytes` take from every start."""
        if nbytes not in self._known:
            self._known[nbytes] = self._transfer_s(nbytes) + self.facts.rtt_s
        return self._known[nbytes]

    def for_search(self, nbytes: int) -> Link:
        """Return the rates that `nbytes` effectively meet, silences included: their mean time is exact."""
        seconds = np.sort(self._transfer_s(max(nbytes, 1)))
        if not np.isfinite(seconds).all():
            return Link.constant(0.0, self.facts.rtt_s)
        groups = np.array_split(seconds, _RATES)
        rates = tuple((len(group) / len(seconds), max(nbytes, 1) / float(group.mean())) for group in groups)
        return Link(rates=rates, rtt_s=self.facts.rtt_s)

    def _transfer_s(self, nbytes: int) -> NDArray[np.float64]:
        """Return the seconds of transfer from every start, as `RateTrace.finish` has them."""
        duration_s, loop = self._trace.duration_s, float(self._carried[-1])
        starts_s = (np.arange(_STARTS) + 0.5) * (duration_s / _STARTS)
        if nbytes <= 0:
            return np.zeros(_STARTS)
        if loop <= 0:
            return np.full(_STARTS, math.inf)
        passes, rest = np.divmod(np.interp(starts_s, self._edges_s, self._carried) + nbytes, loop)
        full = rest == 0  # ends with a pass: at its last byte, not after the silence that may follow it
        passes, rest = passes - full, np.where(full, loop, rest)
        at = np.searchsorted(self._carried, rest, side="left") - 1
        ends_s = self._starts_s[at] + (rest - self._carried[at]) / self._rates[at]
        return np.asarray(np.maximum(passes * duration_s + ends_s - starts_s, 0.0), np.float64)


def crossing_of(link: LinkProfile | TraceLink) -> Crossing:
    """Return how long bytes take over `link`."""
    return TraceCrossing(link) if isinstance(link, TraceLink) else ConstantCrossing(link)
