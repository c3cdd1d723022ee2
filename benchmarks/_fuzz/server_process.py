"""A server in a process of its own, and what it holds: memory, files, threads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 90.0
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a process holds: bytes in RAM, open files and sockets, threads."""

    resident_bytes: int
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Measure a process."""
        proc = Path(f"/proc/{pid}")
        return cls(
            resident_bytes=int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
            files=len(os.listdir(proc / "fd")),
            threads=len(os.listdir(proc / "task")),
        )

    def record(self) -> dict[str, int]:
        """Return it as plain figures."""
        return asdict(self)


class ServerProcess:
    """A running `isthmus serve`.

    Attributes:
        process: The process.
        ready: What it said when it was ready.
        address: Where it listens.
    """

    def __init__(self, *arguments: object) -> None:
        """Start one with `arguments`, on any free port of loopback, and wait until it is ready.

        Raises:
            RuntimeError: If it ended instead.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        path = os.pathsep.join([str(_CHECKOUT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "isthmus", "serve", *map(str, arguments)),
                *("--port", "0", "--threads", "1", "--json"),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self.process.stdout is not None, "it is a pipe"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.log())
        self.ready: dict[str, Any] = json.loads(line)
        self.address = f"127.0.0.1:{self.ready['port']}"

    def log(self) -> str:
        """Return what it has logged so far."""
        return os.pread(self._errors.fileno(), 1 << 24, 0).decode(errors="replace")

    def workers(self) -> list[int]:
        """Return the process ids of its children: of its workers, if it is a supervisor."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def footprint(self, pid: int | None = None) -> Footprint:
        """Measure it, or one of its workers."""
        return Footprint.of(self.process.pid if pid is None else pid)

    def stop(self) -> dict[str, Any]:
        """Let it drain and end; return what it said last."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None, "it is a pipe"
        said = self.process.stdout.read()
        self.process.wait(PATIENCE_S)
        return dict(json.loads(said)) if said else {}

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            for pid in self.workers():
                os.kill(pid, signal.SIGKILL)
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None, "it is a pipe"
        self.process.stdout.close()
        self._errors.close()
