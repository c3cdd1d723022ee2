"""Which nodes run on the device: an exact search over every way to split a network. Pure; no ONNX, no I/O."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from isthmus.partitioner.search.found import Best, Found, Split, SplitKind
from isthmus.partitioner.search.graph import SearchGraph, SearchNode, SearchTensor
from isthmus.partitioner.search.problem import (
    ENERGY,
    LATENCY,
    ON_TIME,
    THROUGHPUT,
    Bottleneck,
    Constraints,
    DevicePower,
    Link,
    Objective,
    RawInput,
    SearchProblem,
)
from isthmus.partitioner.search.score import refusals, score
from isthmus.partitioner.search.solve import MOST_SETS, search

if TYPE_CHECKING:
    from isthmus.partitioner.search.single import (
        CutCost,
        Problem,
        bottleneck_bytes,
        bottleneck_times,
        enumerate_candidates,
        is_feature_map,
        link_seconds,
    )

__all__ = [
    "ENERGY",
    "LATENCY",
    "MOST_SETS",
    "ON_TIME",
    "THROUGHPUT",
    "Best",
    "Bottleneck",
    "Constraints",
    "CutCost",
    "DevicePower",
    "Found",
    "Link",
    "Objective",
    "Problem",
    "RawInput",
    "SearchGraph",
    "SearchNode",
    "SearchProblem",
    "SearchTensor",
    "Split",
    "SplitKind",
    "bottleneck_bytes",
    "bottleneck_times",
    "enumerate_candidates",
    "is_feature_map",
    "link_seconds",
    "refusals",
    "score",
    "search",
]

# A plan names an objective of the search, and the search for single-tensor cuts makes candidates of a plan.
_LAZY = (
    "CutCost",
    "Problem",
    "bottleneck_bytes",
    "bottleneck_times",
    "enumerate_candidates",
    "is_feature_map",
    "link_seconds",
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("isthmus.partitioner.search.single"), name)
    raise AttributeError(f"module 'isthmus.partitioner.search' has no attribute {name!r}")
