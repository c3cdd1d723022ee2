"""Processes that compute batches which nobody serves, on the cores of the servers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _peers.children import Cores, on_cores
from _peers.places import HERE, PROJECT
from isthmus.runtime.errors import BackendError

SCRIPT = HERE / "offline_tail.py"


class Offline:
    """One such process; it stands still between measurements."""

    def __init__(
        self, arguments: Sequence[object], *, python: Path | None = None, cores: Cores | None
    ) -> None:
        """Start `offline_tail.py` with `arguments`.

        Raises:
            BackendError: If it cannot open the tail.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if python is None:
            environment["PYTHONPATH"] = str(PROJECT)
        with on_cores(cores):
            self._process = subprocess.Popen(
                [str(part) for part in (python or sys.executable, SCRIPT, *arguments)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self._answer()

    def measure(self, sizes: Sequence[int], *, seconds: float) -> dict[int, tuple[float, float]]:
        """Return seconds (median) and processor seconds (mean) of a batch of each of `sizes`.

        Each is run for `seconds`, at least three times.
        """
        assert self._process.stdin is not None, "it was started with a pipe"
        self._process.stdin.write(f"{seconds} {' '.join(map(str, sizes))}\n")
        self._process.stdin.flush()
        return {int(size): (wall_s, cpu_s) for size, (wall_s, cpu_s) in self._answer().items()}

    def end(self) -> None:
        """Stop it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.terminate()
        self._process.wait()

    def _answer(self) -> dict[str, tuple[float, float]]:
        assert self._process.stdout is not None, "it was started with a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise BackendError("the tail cannot be computed offline; 'isthmus serve' says why")
        answer: dict[str, tuple[float, float]] = json.loads(line)
        return answer
