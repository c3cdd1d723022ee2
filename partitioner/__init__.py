"""Where to cut a network, and what that gains."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from isthmus.partitioner.facts import (
    BottleneckAssumption,
    BottleneckRules,
    CostTable,
    DeviceProfile,
    LinkProfile,
    LinkTrace,
    MachineFacts,
    TensorFact,
)
from isthmus.partitioner.links import TraceLink
from isthmus.partitioner.plan import Asked, Candidate, Choice, Figures, LearnedPoint, Plan, StageTimes
from isthmus.partitioner.plan_file import read_plan, write_plan
from isthmus.partitioner.search import Objective

if TYPE_CHECKING:
    from isthmus.partitioner.api import input_image_shape, list_cuts, partition

__all__ = [
    "Asked",
    "BottleneckAssumption",
    "BottleneckRules",
    "Candidate",
    "Choice",
    "CostTable",
    "DeviceProfile",
    "Figures",
    "LearnedPoint",
    "LinkProfile",
    "LinkTrace",
    "MachineFacts",
    "Objective",
    "Plan",
    "StageTimes",
    "TensorFact",
    "TraceLink",
    "input_image_shape",
    "list_cuts",
    "partition",
    "read_plan",
    "write_plan",
]

# These need ONNX; reading a plan does not.
_LAZY = ("input_image_shape", "list_cuts", "partition")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("isthmus.partitioner.api"), name)
    raise AttributeError(f"module 'isthmus.partitioner' has no attribute {name!r}")
