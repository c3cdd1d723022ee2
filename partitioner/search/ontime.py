"""The split that is most probably on time, over a link of several rates, by minimum cuts.

A split is on time at every rate above some slowest one. So the question is how slow a rate can be at which
any split is still on time, which halving finds: at a single rate the latency is linear.
"""

from __future__ import annotations

import math

from isthmus.partitioner.search.bounds import latency_weights, limits, lower_bound
from isthmus.partitioner.search.linear import LinearSearch
from isthmus.partitioner.search.scoring import Scorer
from isthmus.partitioner.search.tally import Tally


def least_late(search: LinearSearch, scorer: Scorer, tally: Tally, *, local: bool) -> float:
    """Return a probability of being late that no split of `search` is below; infinite if there is no split.

    Every device set that comes up is weighed. `local` says whether everything on the device may be used.
    """
    deadline_s = scorer.problem.constraints.deadline_s
    kept = limits(scorer, deadline=False)
    assert deadline_s is not None, "the objective was checked"
    assert kept is not None, "no deadline, so nothing rules the link out"
    fastest_first = sorted({rate for _, rate in scorer.rates if rate > 0}, reverse=True)

    def least_s(seconds_per_byte: float) -> float:
        weights = latency_weights(scorer, seconds_per_byte)
        return lower_bound(search, [weights], kept, tally.weigh_state, lambda: deadline_s, local=local)

    if least_s(0) == math.inf:
        return math.inf
    # The first `met` rates can be met, as far as the bound tells; the rate at `missed` cannot.
    met, missed = 0, len(fastest_first)
    while met < missed:
        middle = (met + missed) // 2
        if least_s(1 / fastest_first[middle]) <= deadline_s:
            met = middle + 1
        else:
            missed = middle
    slowest = fastest_first[met - 1] if met else math.inf
    late: float = 0
    for chance, rate in scorer.rates:
        if rate < slowest:
            late += chance
    return late
