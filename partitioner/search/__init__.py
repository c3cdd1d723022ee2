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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module("isthmus.partitioner.search.single"), name)
    raise AttributeError(f"module 'isthmus.partitioner.search' has no attribute {name!r}")
