"""Link estimation and the choice of operating points: pure, time is an argument."""

from isthmus.runtime.control.estimator import DEFAULT_OVERHEAD_BYTES, LinkEstimator
from isthmus.runtime.control.expected_utility import ExpectedUtilityPolicy
from isthmus.runtime.control.fixed import FixedPolicy
from isthmus.runtime.control.local import LocalPolicy
from isthmus.runtime.control.oracle import Foresight, Shipment, oracle
from isthmus.runtime.control.point_joules import with_joules
from isthmus.runtime.control.policy import DEFAULT_POLICY, POLICY_NAMES, make_policy
from isthmus.runtime.control.types import Action, Decision, DeviceState, Fallback, LinkEstimate, Policy

__all__ = [
    "DEFAULT_OVERHEAD_BYTES",
    "DEFAULT_POLICY",
    "POLICY_NAMES",
    "Action",
    "Decision",
    "DeviceState",
    "ExpectedUtilityPolicy",
    "Fallback",
    "FixedPolicy",
    "Foresight",
    "LinkEstimate",
    "LinkEstimator",
    "LocalPolicy",
    "Policy",
    "Shipment",
    "make_policy",
    "oracle",
    "with_joules",
]
