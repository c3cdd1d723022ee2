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
    "DeviceProfile": "isthmus.partitioner",
    "LinkProfile": "isthmus.partitioner",
    "MachineProfile": "isthmus.runtime.machines",
    "Objective": "isthmus.partitioner",
    "OperatingPoint": "isthmus.runtime.bundle",
    "Plan": "isthmus.partitioner",
    "Result": "isthmus.device_agents.delivery.results",
    "TraceLink": "isthmus.partitioner",
    "load_bundle": "isthmus.runtime.bundle",
    "load_dataset": "isthmus.runtime.datasets",
    "load_machine": "isthmus.runtime.machines",
    "partition": "isthmus.partitioner.api",
    "read_events": "isthmus.runtime.events",
    "read_plan": "isthmus.partitioner",
    "write_plan": "isthmus.partitioner",
}

__all__ = [
    "Agent",
    "Bundle",
    "DeviceProfile",
    "LinkProfile",
    "MachineProfile",
    "Objective",
    "OperatingPoint",
    "Plan",
    "Result",
    "TraceLink",
    "__version__",
    "load_bundle",
    "load_dataset",
    "load_machine",
    "partition",
    "read_events",
    "read_plan",
    "write_plan",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
