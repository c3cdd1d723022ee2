"""What a plan is after: the figure to minimise, which candidates count, and how to say one is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.partitioner.plan import Asked, Candidate
from isthmus.runtime.units import format_duration

_ROUNDING = 1e-9
_BETTER = {
    "latency": "faster",
    "energy": "more frugal",
    "weighted": "better",
    "throughput": "higher in throughput",
    "on-time": "better",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """An objective with the conditions a candidate has to keep to be chosen.

    Attributes:
        asked: Objective, deadline, least accuracy.
    """

    asked: Asked

    def value(self, item: Candidate) -> float:
        """Return what is minimised; infinite where a frame never ends or the figure is unknown."""
        objective, total_s = self.asked.objective, item.times.total_s
        if total_s is None:
            return math.inf
        energy_j = math.inf if item.figures.energy_j is None else item.figures.energy_j
        if objective.kind == "latency":
            return total_s
        if objective.kind == "energy":
            return energy_j
        if objective.kind == "weighted":
            return objective.alpha * total_s + (objective.beta * energy_j if objective.beta else 0.0)
        if objective.kind == "throughput":
            return math.inf if item.figures.period_s is None else item.figures.period_s
        return 1.0 - (item.figures.on_time or 0.0)

    def key(self, item: Candidate) -> tuple[float, float, int]:
        """Return what to sort by: the value; of equals the faster, then the smaller payload."""
        total_s = item.times.total_s
        return self.value(item), math.inf if total_s is None else total_s, item.payload_bytes

    def in_time(self, item: Candidate) -> bool:
        """Say whether `item` meets the deadline as often as it has to; always without one."""
        on_time = item.figures.on_time
        return on_time is None or on_time >= self.asked.deadline_probability - _ROUNDING

    def accurate(self, item: Candidate) -> bool:
        """Say whether `item` is accurate enough to be chosen, as far as anybody knows."""
        least = self.asked.least_accuracy
        return least is None or item.learned is None or item.learned.accuracy >= least - _ROUNDING

    def show(self, item: Candidate) -> str:
        """Return the value of `item` for people, with its latency where that is not the same."""
        total_s = item.times.total_s
        if total_s is None:
            return "never"
        kind, seconds = self.asked.objective.kind, format_duration(total_s)
        if kind == "energy" and item.figures.energy_j is not None:
            return f"{item.figures.energy_j:.3g} J, {seconds}"
        if kind == "throughput" and item.figures.period_s:
            return f"{1 / item.figures.period_s:.3g} frames/s, {seconds}"
        if kind == "weighted":
            return f"{self.value(item):.3g}, {seconds}"
        if kind == "on-time" and item.figures.on_time is not None:
            return f"{item.figures.on_time:.1%} on time, {seconds}"
        return seconds

    @property
    def better(self) -> str:
        """What a lower value is called."""
        return _BETTER[self.asked.objective.kind]
