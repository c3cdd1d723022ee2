"""The policies by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from isthmus.runtime.bundle import OperatingPoint, PointTable
from isthmus.runtime.control.ewma import ewma_policy
from isthmus.runtime.control.expected_utility import ExpectedUtilityPolicy
from isthmus.runtime.control.fixed import FixedPolicy
from isthmus.runtime.control.harmonic import harmonic_policy
from isthmus.runtime.control.local import LocalPolicy
from isthmus.runtime.control.objective import make_objective
from isthmus.runtime.control.robust import robust_policy
from isthmus.runtime.control.slimmable_loop import SlimmableLoopPolicy
from isthmus.runtime.control.spinn import SpinnPolicy
from isthmus.runtime.control.types import Policy
from isthmus.runtime.errors import InputError

DEFAULT_POLICY = ExpectedUtilityPolicy.name
_PLAIN: dict[str, Callable[[PointTable], Policy]] = {
    "robust": robust_policy,
    "harmonic": harmonic_policy,
    "ewma": ewma_policy,
    "spinn": SpinnPolicy,
    "slimmable-loop": SlimmableLoopPolicy,
    "local": LocalPolicy,
}
_FIXED = "fixed:WIDTHINDEX,CHANNELS"
POLICY_NAMES = (DEFAULT_POLICY, *_PLAIN, _FIXED)


def make_policy(name: str, points: PointTable, *, objective: str = "accuracy") -> Policy:
    """Return the policy `name`, one of `POLICY_NAMES`, made for the measured table `points`.

    Args:
        name: A policy.
        points: The bundle's table.
        objective: `accuracy`, `energy` or `bytes:PER_HOUR`; only the expected-utility policy has others than
            `accuracy`.

    Raises:
        InputError: If there is no such policy or objective, or the bundle lacks what it needs.
    """
    charge = make_objective(objective, points)
    if name == DEFAULT_POLICY:
        return ExpectedUtilityPolicy(points, objective=charge)
    if charge is not None:
        raise InputError(f"policy {name!r} knows no objective {objective!r}; use {DEFAULT_POLICY} for that")
    if name in _PLAIN:
        return _PLAIN[name](points)
    match = re.fullmatch(r"fixed:([0-9]{1,5}),([0-9]{1,5})", name)
    if match is None:
        raise InputError(f"policy {name!r} is not known; choose one of {', '.join(POLICY_NAMES)}")
    point = OperatingPoint(width_index=int(match[1]), channels=int(match[2]))
    known = [record.point for record in points.records]
    if point not in known:
        listed = ", ".join(f"{p.width_index},{p.channels}" for p in known)
        raise InputError(f"policy {name!r}: the bundle has no such point; it has {listed}")
    return FixedPolicy(points, point)
