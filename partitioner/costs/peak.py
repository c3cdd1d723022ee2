"""`python -m isthmus.partitioner.costs.peak MODEL INPUTS.npz THREADS`: the bytes that running a model adds.

A process of its own, so that nothing else has touched its memory. Linux only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main(model: str, inputs: str, threads: str) -> int:
    """Return the peak of resident memory over loading and running `model`, less what was there before."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 4
    with np.load(inputs) as stored:
        values = [stored[f"input{index}"] for index in range(len(stored.files))]
    # Start the peak over: importing needs more for a moment than it keeps.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    session.run(None, dict(zip(names, values, strict=True)))
    return _status_bytes("VmHWM") - before


def _status_bytes(key: str) -> int:
    """Return a size of this process, which the kernel states in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/self/status has no {key}")


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
