"""Link estimation and the choice of operating points: pure, time is an argument."""

from isthmus.runtime.control.types import Action, Decision, DeviceState, Fallback, LinkEstimate, Policy

__all__ = ["Action", "Decision", "DeviceState", "Fallback", "LinkEstimate", "Policy"]
