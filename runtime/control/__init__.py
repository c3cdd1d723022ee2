"""Link estimation and the choice of operating points: pure, time is an argument."""

from isthmus.runtime.control.estimator import DEFAULT_OVERHEAD_BYTES, LinkEstimator
from isthmus.runtime.control.expected_utility import ExpectedUtilityPolicy
from isthmus.runtime.control.policy import FixedPolicy, LocalPolicy, make_policy
from isthmus.runtime.control.types import Action, Decision, DeviceState, Fallback, LinkEstimate, Policy

__all__ = [
    "DEFAULT_OVERHEAD_BYTES",
    "Action",
    "Decision",
    "DeviceState",
    "ExpectedUtilityPolicy",
    "Fallback",
    "FixedPolicy",
    "LinkEstimate",
    "LinkEstimator",
    "LocalPolicy",
    "Policy",
    "make_policy",
]
