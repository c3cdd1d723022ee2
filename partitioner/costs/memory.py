"""How much memory a half takes: computed from its tensors, and measured in a process of its own.

What is computed is a lower bound: a runtime adds its own code, aligned copies of weights and an arena that it
does not give back. What is measured is one runtime's, and says so by where it stands.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from isthmus.partitioner.facts import TensorFact
from isthmus.partitioner.network.onnx_writer import write_model
from isthmus.partitioner.network.subgraphs import makes, reads
from isthmus.partitioner.network.weights import MAX_BYTES, all_tensors, stored_bytes
from isthmus.partitioner.running.execution import Feed

_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfMemory:
    """Memory of one half for one sample.

    Attributes:
        weight_bytes: Its constants as the file stores them.
        activation_bytes: The largest sum of tensors that are alive while its nodes run in order; tensors of
            unknown size are not in it.
        peak_bytes: Resident memory that loading and running it added to a process, at its peak, or None
            where that was not measured.
    """

    weight_bytes: int
    activation_bytes: int
    peak_bytes: int | None = None


def half_memory(half: ModelProto, facts: Mapping[str, TensorFact]) -> HalfMemory:
    """Return the memory of `half`, computed.

    Args:
        half: A model with its nodes in the order of execution.
        facts: Sizes of its tensors; what is not in it is constant.
    """
    graph = half.graph
    last = {name: index for index, node in enumerate(graph.node) for name in reads(node)}
    last |= {value.name: len(graph.node) for value in graph.output}
    alive = {value.name: _nbytes(facts, value.name) for value in graph.input}
    largest = sum(alive.values())
    for index, node in enumerate(graph.node):
        alive |= {name: _nbytes(facts, name) for name in makes(node)}
        largest = max(largest, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return HalfMemory(
        weight_bytes=sum(stored_bytes(tensor) for tensor in all_tensors(graph)), activation_bytes=largest
    )


def measure_peak_bytes(half: ModelProto, folder: Path, feed: Feed, *, threads: int) -> int | None:
    """Return the resident memory that loading and running `half` takes, or None if it cannot be told.

    Measured in a fresh process; only Linux tells a process its peak and lets it start over.

    Args:
        half: The model.
        folder: Where its external weights are.
        feed: Its inputs; it may hold more.
        threads: Threads of one inference.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    wanted = {value.name: feed[value.name] for value in half.graph.input if value.name in feed}
    with tempfile.TemporaryDirectory(prefix="isthmus-memory-") as place:
        model, inputs = Path(place) / "half.onnx", Path(place) / "inputs.npz"
        write_model(half, model, folder, largest_bytes=MAX_BYTES)
        names = [f"input{index}" for index in range(len(wanted))]
        # Tensor names may hold what a file name cannot; the order of the inputs tells them apart.
        np.savez(inputs, **dict(zip(names, wanted.values(), strict=True)))  # type: ignore[arg-type]
        command = [
            sys.executable,
            "-m",
            "isthmus.partitioner.costs.peak",
            str(model),
            str(inputs),
            str(threads),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
            return int(done.stdout)
        except (subprocess.SubprocessError, ValueError):
            return None  # killed for its memory, or a kernel that does not answer: not known


def _nbytes(facts: Mapping[str, TensorFact], name: str) -> int:
    fact = facts.get(name)
    return (fact.nbytes or 0) if fact is not None else 0
