"""Isthmus: an edge and split-computing runtime.

The public API; everything else may change. Names load on first use, so that `import isthmus` needs neither
torch nor onnx.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("isthmus")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"

_PUBLIC = {
    "Agent": "isthmus.device_agents.api",
    "Bundle": "isthmus.runtime.bundle",
    "OperatingPoint": "isthmus.runtime.bundle",
    "Result": "isthmus.device_agents.results",
    "load_bundle": "isthmus.runtime.bundle",
    "load_dataset": "isthmus.runtime.datasets",
    "partition": "isthmus.partitioner.api",
    "read_events": "isthmus.runtime.events",
}

__all__ = [
    "Agent",
    "Bundle",
    "OperatingPoint",
    "Result",
    "__version__",
    "load_bundle",
    "load_dataset",
    "partition",
    "read_events",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
