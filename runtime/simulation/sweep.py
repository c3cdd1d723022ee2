"""Many simulated runs: traces × policies × deadlines × seeds, with what each amounts to.

Each seed draws other images, times and jitter, and begins elsewhere in the trace, evenly spread over it. The
clairvoyant sees the same worlds; a policy's regret is 1 − U / U of the clairvoyant, run by run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import fmean, stdev

from isthmus.runtime.control import DEFAULT_POLICY, Policy, make_policy
from isthmus.runtime.simulation.device import run_device
from isthmus.runtime.simulation.foresight import foresee
from isthmus.runtime.simulation.world import DeviceWorld

# Student's t, 97.5 %, by degrees of freedom; those between take the next lower, which is wider.
_T975 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
    10: 2.228,
    15: 2.131,
    20: 2.086,
    30: 2.042,
    60: 2.0,
    120: 1.98,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval95:
    """A mean over seeds and the half width of its 95 % confidence interval; None from a single seed."""

    mean: float
    half_width: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of one policy.

    Attributes:
        trace, policy, deadline_s, seed: Which run.
        utility, hit_share, remote_share: As in `DeviceRun`.
        oracle_utility: The clairvoyant's, per frame.
        payload_bytes: Per captured frame.
        latency_p50_s, latency_p99_s: Over answered frames; None without any.
        energy_j: Per captured frame, as in `DeviceRun`, if known.
        energy_source: As in `DeviceRun`.
    """

    trace: str
    policy: str
    deadline_s: float
    seed: int
    utility: float
    hit_share: float
    remote_share: float
    oracle_utility: float
    payload_bytes: float
    latency_p50_s: float | None
    latency_p99_s: float | None
    energy_j: float | None
    energy_source: str | None

    @property
    def regret(self) -> float:
        """1 − utility over the clairvoyant's; 0 where even that is 0."""
        return 1.0 - self.utility / self.oracle_utility if self.oracle_utility > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy on one trace with one deadline, over all seeds; means per captured frame."""

    trace: str
    policy: str
    deadline_s: float
    seeds: int
    utility: Interval95
    regret: Interval95
    hit_share: Interval95
    remote_share: Interval95
    payload_bytes: Interval95
    energy_j: Interval95 | None
    energy_source: str | None


def sweep(
    worlds: Sequence[DeviceWorld],
    policies: Sequence[str],
    *,
    objective: str = "accuracy",
    jobs: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Outcome]:
    """Run every policy in every world.

    Args:
        worlds: As `seeded` makes them.
        policies: Names, as `make_policy` takes them.
        objective: What the policies that know objectives are after, as `make_policy` takes it.
        jobs: Processes; the outcome does not depend on it.
        progress: Called with the share (0..1) of the worlds that is done.

    Raises:
        InputError: If a policy is not known, or the bundle lacks what it needs.
    """
    for world in worlds[:1]:
        for policy in policies:
            sweep_policy(policy, world, objective)
    if jobs == 1 or len(worlds) == 1:
        return _gathered((_run_world(world, policies, objective) for world in worlds), len(worlds), progress)
    with ProcessPoolExecutor(min(jobs, len(worlds)), mp_context=get_context("spawn")) as pool:
        found = pool.map(_run_world, worlds, [policies] * len(worlds), [objective] * len(worlds))
        return _gathered(found, len(worlds), progress)


def sweep_policy(name: str, world: DeviceWorld, objective: str) -> Policy:
    """Return the policy `name` for `world`; only the default one knows objectives, others are to compare.

    Raises:
        InputError: If the policy or the objective is not known, or the table lacks what they need.
    """
    return make_policy(name, world.points, objective=objective if name == DEFAULT_POLICY else "accuracy")


def _gathered(found: Iterable[list[Outcome]], count: int, progress: Callable[[float], None]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for done, some in enumerate(found, start=1):
        outcomes += some
        progress(done / count)
    return outcomes


def seeded(world: DeviceWorld, seeds: int) -> list[DeviceWorld]:
    """Return `world` once per seed 0..`seeds` − 1, each beginning at another place in the trace."""
    step_s = world.trace.duration_s / seeds
    return [replace(world, seed=seed, start_s=world.start_s + seed * step_s) for seed in range(seeds)]


def rows(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return the means over seeds, in the order of the outcomes."""
    cells: dict[tuple[str, str, float], list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault((outcome.trace, outcome.policy, outcome.deadline_s), []).append(outcome)
    return [
        Row(
            trace=trace,
            policy=policy,
            deadline_s=deadline_s,
            seeds=len(cell),
            utility=interval95([outcome.utility for outcome in cell]),
            regret=interval95([outcome.regret for outcome in cell]),
            hit_share=interval95([outcome.hit_share for outcome in cell]),
            remote_share=interval95([outcome.remote_share for outcome in cell]),
            payload_bytes=interval95([outcome.payload_bytes for outcome in cell]),
            energy_j=_known([outcome.energy_j for outcome in cell]),
            energy_source=cell[0].energy_source,
        )
        for (trace, policy, deadline_s), cell in cells.items()
    ]


def interval95(values: Sequence[float]) -> Interval95:
    """Return the mean of `values` with its 95 % confidence interval by Student's t."""
    if len(values) < 2:
        return Interval95(mean=fmean(values), half_width=None)
    freedom = len(values) - 1
    t = _T975[max(known for known in _T975 if known <= freedom)]
    return Interval95(mean=fmean(values), half_width=t * stdev(values) / math.sqrt(len(values)))


def _known(values: Sequence[float | None]) -> Interval95 | None:
    known = [value for value in values if value is not None]
    return interval95(known) if len(known) == len(values) else None


def _run_world(world: DeviceWorld, policies: Sequence[str], objective: str) -> list[Outcome]:
    best = foresee(world).utility / world.frames
    outcomes = []
    for policy in policies:
        run = run_device(world, sweep_policy(policy, world, objective))
        outcomes.append(
            Outcome(
                trace=world.trace.name,
                policy=policy,
                deadline_s=world.deadline_s,
                seed=world.seed,
                utility=run.utility,
                hit_share=run.hit_share,
                remote_share=run.remote_share,
                oracle_utility=best,
                payload_bytes=run.payload_bytes / world.frames,
                latency_p50_s=run.summary.latency_p50_s,
                latency_p99_s=run.summary.latency_p99_s,
                energy_j=None if run.energy_j is None else run.energy_j / world.frames,
                energy_source=run.energy_source,
            )
        )
    return outcomes
