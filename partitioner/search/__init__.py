"""Which nodes run on the device: an exact search over every way to split a network. Pure; no ONNX, no I/O."""

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

__all__ = [
    "ENERGY",
    "LATENCY",
    "MOST_SETS",
    "ON_TIME",
    "THROUGHPUT",
    "Best",
    "Bottleneck",
    "Constraints",
    "DevicePower",
    "Found",
    "Link",
    "Objective",
    "RawInput",
    "SearchGraph",
    "SearchNode",
    "SearchProblem",
    "SearchTensor",
    "Split",
    "SplitKind",
    "refusals",
    "score",
    "search",
]
