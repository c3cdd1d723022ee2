"""The same and longer faults on the simulator's clock: the agent's own session, policy and estimator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from _faults.bundles import Properties
from _faults.verdict import Verdict, judge
from isthmus.runtime.bundle import PointTable, load_bundle
from isthmus.runtime.control import make_policy
from isthmus.runtime.events import Event, RunEvent
from isthmus.runtime.links import RateTrace
from isthmus.runtime.simulation import Constant, DeviceWorld, Lognormal, run_device

# Long enough before the fault that several random phases of it are met, and long enough after it.
_BEFORE_S, _AFTER_S = 20.0, 15.0
_GOOD = 100e3
_SEEDS = range(8)
_DEADLINE_S = 0.15


def _played(make: Callable[[PointTable, int], DeviceWorld], properties: Properties, *, fault: Any) -> Verdict:
    """Run the world with 8 seeds; the account is checked in each, the windows' means are over all."""
    points = load_bundle(properties.bundle).points
    verdicts = []
    for seed in _SEEDS:
        world = make(points, seed)
        events: list[Event] = []
        run = run_device(world, make_policy("expected-utility", points), sink=events.append)
        begin = RunEvent(
            at_s=0.0,
            unix_s=0.0,
            bundle="tiny",
            bundle_digest="",
            source="simulated",
            policy="expected-utility",
            server="",
            deadline_s=world.deadline_s,
            fps=world.fps,
            widths=(),
            labels=(),
            teacher_utility=points.teacher_utility,
            isthmus_version="",
        )
        summary = {"captured": run.summary.captured, "outcomes": run.summary.outcomes, "events_lost": 0}
        fault_s, return_s = fault(seed) if fault else (None, None)
        verdicts.append(
            judge(
                [begin, *events],
                summary,
                points,
                fault_s=fault_s,
                return_s=return_s,
                deadline_s=world.deadline_s,
            )
        )
    return Verdict.pooled(verdicts)


def _phase(seed: int) -> float:
    """Return when the fault of `seed` begins: never at the same place of a frame's period."""
    return _BEFORE_S + 0.377 * seed


def _world(points: PointTable, seed: int, **changes: Any) -> DeviceWorld:
    fixed: dict[str, Any] = {
        "points": points,
        "trace": RateTrace([(1.0, _GOOD)]),
        "fps": 30.0,
        "deadline_s": _DEADLINE_S,
        "duration_s": 60.0,
        "server_s": Lognormal(middle_s=0.002, sigma=0.3),
        "jitter_s": Lognormal(middle_s=0.001, sigma=0.8),
        "seed": seed,
    }
    return DeviceWorld(**(fixed | changes))


def link_cut(properties: Properties, *, lasts_s: float, rate: float = 0.0) -> Verdict:
    """The link carries `rate` for so long."""

    def make(points: PointTable, seed: int) -> DeviceWorld:
        begin_s = _phase(seed)
        trace = RateTrace([(begin_s, _GOOD), (lasts_s, rate), (10_000.0, _GOOD)])
        return _world(points, seed, trace=trace, duration_s=begin_s + lasts_s + _AFTER_S)

    return _played(make, properties, fault=lambda seed: (_phase(seed), _phase(seed) + lasts_s))


def server_away(properties: Properties, *, lasts_s: float, kind: str = "outages") -> Verdict:
    """The server cannot be reached at all (`outages`), or says that it is busy (`busy`), for so long."""

    def make(points: PointTable, seed: int) -> DeviceWorld:
        begin_s = _phase(seed)
        span = {kind: ((begin_s, begin_s + lasts_s),)}
        return _world(points, seed, duration_s=begin_s + lasts_s + _AFTER_S, **span)

    return _played(make, properties, fault=lambda seed: (_phase(seed), _phase(seed) + lasts_s))


def throughout(properties: Properties, **changes: Any) -> Verdict:
    """Something is wrong for the whole run."""
    return _played(partial(_world, **changes), properties, fault=None)


def flapping(properties: Properties) -> Verdict:
    """The link comes and goes, 1 s each, for ten minutes."""
    trace = RateTrace([(1.0, _GOOD), (1.0, 0.0)])
    return throughout(properties, trace=trace, duration_s=600.0)


def slow_heads(properties: Properties, *, queue_limit: int | None = None) -> Verdict:
    """Every head takes twice the period of a frame."""
    heads = {index: Constant(2 / 30) for index in range(4)}
    return throughout(properties, head_s=heads, queue_limit=queue_limit)
