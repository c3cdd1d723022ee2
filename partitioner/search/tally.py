"""What has been weighed so far: the best of every objective, the Pareto set, and how many there were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from isthmus.partitioner.search.growth import State
from isthmus.partitioner.search.pareto import ParetoSet
from isthmus.partitioner.search.problem import Objective
from isthmus.partitioner.search.regions import admitted
from isthmus.partitioner.search.scoring import Candidate, Scorer


class Tally:
    """Weighs candidates one by one and keeps only what may be wanted.

    Of splits that are equally good for an objective, the one with the least latency, energy, bytes and period
    wins, in this order, then the first.
    """

    def __init__(self, scorer: Scorer, objectives: Sequence[Objective], *, pareto: bool) -> None:
        self.considered = 0
        self.front = ParetoSet(scorer.problem.accuracy) if pareto else None
        self._scorer, self._objectives = scorer, objectives
        self._best: list[tuple[tuple[float, ...], Candidate | None]] = [((math.inf,), None)] * len(objectives)

    def weigh_state(self, state: State) -> None:
        """Weigh a device set with every way to send the inputs that cross."""
        if admitted(self._scorer, state.mask):
            self.weigh(self._scorer.candidates(state))

    def weigh(self, candidates: Iterable[Candidate]) -> None:
        """Weigh candidates whose cuts are allowed."""
        scorer = self._scorer
        for candidate in candidates:
            self.considered += 1
            if scorer.breaks(candidate, deadline=False):
                continue
            # To be on time is an objective as well as a constraint; as an objective it has no threshold.
            in_time = not scorer.breaks(candidate)
            point = candidate.point
            for index, objective in enumerate(self._objectives):
                value = scorer.value(objective, point)
                if value < math.inf and (in_time or objective.kind == "on-time"):
                    best = self._best[index][0]
                    if value <= best[0] and (key := (value, *point[:4])) < best:
                        self._best[index] = (key, candidate)
            if self.front is not None and in_time and point.latency_s < math.inf:
                self.front.add(candidate)

    def best(self, index: int) -> tuple[float, Candidate | None]:
        """Return the best value of the objective `index` and the candidate that has it."""
        key, candidate = self._best[index]
        return key[0], candidate
