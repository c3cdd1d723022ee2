"""Which candidates no other beats: in latency, energy, bytes, period and accuracy together.

One candidate beats another if it is at least as good in all five and better in one; of equal ones the first
stays. An unknown accuracy is compared only with its like: two plain splits of a network compute the same, and
two bottlenecks that nobody has trained are taken to.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.partitioner.search.scoring import Candidate

Figures = tuple[float, ...]


class ParetoSet:
    """The candidates so far that none beats."""

    def __init__(self, network_accuracy: float | None) -> None:
        """Start empty; plain splits have `network_accuracy`."""
        self._plain = network_accuracy
        self._fronts: dict[str, list[tuple[Figures, Candidate]]] = {}

    def add(self, candidate: Candidate) -> None:
        """Take `candidate` in unless it is beaten or equal, and drop what it beats."""
        bottleneck = candidate.bottleneck
        accuracy = self._plain if bottleneck is None else bottleneck.accuracy
        kind = "known" if accuracy is not None else "assumed" if bottleneck is not None else "network's"
        figures = (*candidate.point[:4], -(accuracy or 0))
        front = self._fronts.setdefault(kind, [])
        for place, (other, _) in enumerate(front):
            if beats_or_equals(other, figures):
                # What beat the last one probably beats the next one too.
                front.insert(0, front.pop(place))
                return
        front[:] = [item for item in front if not beats_or_equals(figures, item[0])]
        front.insert(0, (figures, candidate))

    def candidates(self) -> list[Candidate]:
        """Return them in the order of their figures."""
        every = [item for front in self._fronts.values() for item in front]
        return [candidate for _, candidate in sorted(every, key=lambda item: item[0])]


def beats_or_equals(one: Sequence[float], other: Sequence[float]) -> bool:
    """Say whether `one` is at least as good in every figure; smaller is better."""
    return all(a <= b for a, b in zip(one, other, strict=True))
