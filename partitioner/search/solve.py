"""`search`: the best split of every objective, the Pareto set, and what of it is proven.

Three ways, cheapest first. What is linear is a minimum cut: exact, if what it finds keeps the constraints.
Everything else is tried, block by block, up to a number of device sets. In blocks that have more, cuts under
prices give splits to weigh and a bound to hold them against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isthmus.partitioner.search.bounds import Limit, limits, lower_bound, pieces
from isthmus.partitioner.search.found import Best, Found
from isthmus.partitioner.search.ideals import Block, blocks, fits, ideals, starts
from isthmus.partitioner.search.learned import bottleneck_candidates
from isthmus.partitioner.search.linear import LinearSearch
from isthmus.partitioner.search.ontime import least_late
from isthmus.partitioner.search.problem import ENERGY, LATENCY, THROUGHPUT, Objective, SearchProblem
from isthmus.partitioner.search.regions import Region, regions
from isthmus.partitioner.search.scoring import Scorer
from isthmus.partitioner.search.tally import Tally
from isthmus.runtime.errors import InputError

MOST_SETS = 200_000
# Shares of latency in the mixes with energy and with bytes that are cut where the Pareto set is too large.
_MIXES = (0.1, 0.3, 0.5, 0.7, 0.9)


def search(
    problem: SearchProblem,
    objectives: Sequence[Objective] = (LATENCY, ENERGY, THROUGHPUT),
    *,
    pareto: bool = True,
    most_sets: int = MOST_SETS,
) -> Found:
    """Return the best split for each of `objectives`, and the Pareto set.

    Args:
        problem: The network, the machines, the link, and what has to hold.
        objectives: What to minimise.
        pareto: Whether the Pareto set is wanted; without it, what a minimum cut answers is not enumerated.
        most_sets: How many device sets may be tried one by one; 0 for none.

    Raises:
        InputError: If an objective needs a deadline and there is none, or nothing is sought.
        PlanError: If a bottleneck's cut does not separate device from server.
    """
    if not objectives and not pareto:
        raise InputError("nothing to search for: no objective and no Pareto set; give an objective")
    return _Search(problem, objectives, pareto=pareto).run(most_sets)


class _Search:
    """One search: what has been weighed, and what is known of the rest."""

    def __init__(self, problem: SearchProblem, objectives: Sequence[Objective], *, pareto: bool) -> None:
        self.scorer = Scorer(problem)
        self.objectives = objectives
        self.blocks = blocks(self.scorer)
        self.regions = regions(self.scorer)
        self.tally = Tally(self.scorer, objectives, pareto=pareto)
        self.tally.weigh(bottleneck_candidates(self.scorer))
        # What no plain split is better than, by objective; known objectives are in it.
        self.bounds: dict[int, float] = {}
        self.ways: dict[int, str] = {}
        self.large: list[tuple[Region, list[Block]]] = []
        for objective in objectives:
            self.scorer.value(objective, self.scorer.point(0, 0, 0, 0, offloads=False))

    def run(self, most_sets: int) -> Found:
        """Return the answer."""
        self._weigh_local()
        every = range(len(self.objectives))
        if self.tally.front is None:
            for index in every:
                self._cut(index, [(region, self.blocks) for region in self.regions], only_if_met=True)
        open_ones = [index for index in every if index not in self.bounds]
        if open_ones or self.tally.front is not None:
            self._enumerate(most_sets)
            for index in open_ones:
                if self.large:
                    self._cut(index, self.large, only_if_met=False)
                else:
                    self.bounds[index] = self.tally.best(index)[0]
                    self.ways[index] = "enumeration"
            if self.tally.front is not None:
                for region, found in self.large:
                    self._mix(LinearSearch(self.scorer, region, found))
        return self._found()

    def _weigh_local(self) -> None:
        """Weigh everything on the device, which no cut through the network has to come upon."""
        full = self.scorer.full
        if any(not region.server for region in self.regions):
            self.tally.weigh_state(self.scorer.state_of(full))

    def _local_keeps(self, *, deadline: bool) -> bool:
        """Say whether everything on the device keeps the memory and, if asked, the deadline."""
        (candidate,) = self.scorer.candidates(self.scorer.state_of(self.scorer.full))
        return not self.scorer.breaks(candidate, deadline=deadline)

    def _enumerate(self, most_sets: int) -> None:
        """Weigh every device set of the blocks that have few enough; the others become `large`.

        Small blocks come first. A block may take half of what is left, the last one all of it: that way large
        blocks do not use up what a later one could have been solved with.
        """
        jobs = [(block, region) for region in self.regions for block in self.blocks if fits(block, region)]
        jobs.sort(key=lambda job: job[0].last - job[0].first)
        before = starts(self.scorer, self.blocks)
        left = most_sets
        large: dict[Region, list[Block]] = {}
        for number, (block, region) in enumerate(jobs, start=1):
            may_take = left if number == len(jobs) else left // 2
            for taken, state in enumerate(ideals(self.scorer, block, region, before[block]), start=1):
                if taken > may_take:
                    large.setdefault(region, []).append(block)
                    break
                left -= 1
                self.tally.weigh_state(state)
        self.large = [(region, sorted(found)) for region, found in large.items()]

    def _cut(self, index: int, where: list[tuple[Region, list[Block]]], *, only_if_met: bool) -> None:
        """Bound the objective `index` over `where`; with `only_if_met` record only what is then proven."""
        objective, scorer, tally = self.objectives[index], self.scorer, self.tally
        bound, kept = math.inf, limits(scorer, deadline=objective.kind != "on-time")
        for region, found in where:
            here = LinearSearch(scorer, region, found)
            if objective.kind == "on-time":
                least = least_late(here, scorer, tally, local=self._local_keeps(deadline=False))
            elif scorer.seconds_per_byte == math.inf or kept is None:
                least = math.inf  # only what needs no server is ever finite, and that is weighed
            else:
                least = self._bound(index, here, kept, cheap=only_if_met)
            bound = min(bound, least)
        value = tally.best(index)[0]
        if only_if_met and not _meets(value, bound):
            return
        self.bounds[index] = min(bound, value)
        linear = objective.kind != "throughput" and _meets(value, bound)
        self.ways[index] = "min-cut" if linear else "Lagrangian bound"

    def _bound(self, index: int, here: LinearSearch, kept: list[Limit], *, cheap: bool) -> float:
        """Return what no split of `here` is better than, for the objective `index`."""
        local = self._local_keeps(deadline=True)
        costs, weigh = pieces(self.scorer, self.objectives[index]), self.tally.weigh_state

        def best() -> float:
            return self.tally.best(index)[0]

        least = -math.inf
        if len(costs) == 1:  # first without limits: what keeps them anyway needs no price
            least = lower_bound(here, costs, [], weigh, best, local=local)
        if not cheap and least < best() and (kept or len(costs) > 1):
            least = max(least, lower_bound(here, costs, kept, weigh, best, local=local))
        return least

    def _mix(self, here: LinearSearch) -> None:
        """Weigh cuts under mixes of latency, energy, bytes and stages: corners of the Pareto set's hull."""
        if self.scorer.seconds_per_byte == math.inf:
            return
        (latency,), (energy,) = pieces(self.scorer, LATENCY), pieces(self.scorer, ENERGY)
        stages = pieces(self.scorer, THROUGHPUT)
        fastest = here.least(latency)
        for other in (energy, *stages):
            if (least := here.least(other)).state is not None:
                self.tally.weigh_state(least.state)
            worth = 0 if fastest.state is None else here.value(other, fastest.state)
            if not worth > 0:
                continue
            for share in _MIXES:
                mixed = latency.plus(latency, share - 1)
                mixed = mixed.plus(other, (1 - share) * fastest.value / worth)
                if (state := here.least(mixed).state) is not None:
                    self.tally.weigh_state(state)

    def _found(self) -> Found:
        best = {}
        for index, objective in enumerate(self.objectives):
            value, candidate = self.tally.best(index)
            bound = min(value, self.bounds[index])
            best[objective.name] = Best(
                split=None if candidate is None else self.scorer.split(candidate),
                value=value,
                bound=bound,
                proven=_meets(value, bound),
                how=self.ways[index],
            )
        front = [] if self.tally.front is None else self.tally.front.candidates()
        return Found(
            best=best,
            pareto=tuple(self.scorer.split(candidate) for candidate in front),
            pareto_exact=self.tally.front is not None and not self.large,
            considered=self.tally.considered,
            how=self._how(),
        )

    def _how(self) -> str:
        ways = sorted(set(self.ways.values()))
        large = {block for _, found in self.large for block in found}
        text = f"weighed {self.tally.considered} splits of {len(self.blocks)} blocks"
        if ways:
            text += f" by {' and '.join(ways)}"
        if large:
            nodes = max(block.last - block.first for block in large)
            text += f"; {len(large)} blocks of up to {nodes} nodes have too many to try them all"
        return text


def _meets(value: float, bound: float) -> bool:
    """Say whether `value` is as good as `bound`, up to rounding where numbers are floats."""
    slack = 1e-9 * abs(value) if isinstance(value, float) and value < math.inf else 0
    return value <= bound + slack
