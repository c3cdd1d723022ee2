"""Fuzzed payloads in a process of their own, so that a crash of it is a finding and not the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _fuzz.sanitised import SanitisedCoder

_BENCHMARKS = Path(__file__).resolve().parents[1]
# What a process may grow by between the end of its warm-up and its end.
SLACK_BYTES = 32 << 20
# Beyond the time asked for: to start, and to end the input that is being read.
_PATIENCE_S = 120.0


def run_payloads(
    folder: Path, *, payloads: int, seconds: float, seed: int, coder: SanitisedCoder | None = None
) -> dict[str, Any]:
    """Return figures of at most `payloads` inputs within `seconds`, of the built coder or of `coder`.

    Args:
        folder: For its files.
        payloads: Most inputs.
        seconds: Longest time.
        seed: Decides what they are.
        coder: Read with this one.
    """
    last = folder / "last_input.bin"
    asked = {
        "payloads": payloads,
        "seconds": seconds,
        "seed": seed,
        "coder": None if coder is None else str(coder.file),
        "last": str(last),
    }
    path = os.pathsep.join([str(_BENCHMARKS), str(_BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path.rstrip(os.pathsep)}
    command = [sys.executable, "-m", "_fuzz.payload_worker", json.dumps(asked)]
    try:
        done = subprocess.run(
            command,
            env=environment | (coder.environment if coder is not None else {}),
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"violations": [f"hangs on {_input(last)}"]}
    if done.returncode != 0:
        return {"violations": [f"crashed ({done.returncode}) on {_input(last)}: {done.stderr[-3000:]}"]}
    found = json.loads(done.stdout.splitlines()[-1])
    found["violations"] += growth(found["resident_bytes_before"], found["resident_bytes_after"])
    return {**found, "sanitisers": None if coder is None else f"address, undefined ({coder.compiler})"}


def growth(before_bytes: int, after_bytes: int) -> list[str]:
    """Return the violation if a process has grown by more than `SLACK_BYTES`."""
    if after_bytes - before_bytes <= SLACK_BYTES:
        return []
    return [f"memory grew from {before_bytes} to {after_bytes} bytes"]


def _input(last: Path) -> str:
    data = last.read_bytes()
    return data[4 : 4 + int.from_bytes(data[:4], "little")].hex()
