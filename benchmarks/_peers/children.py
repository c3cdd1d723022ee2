"""Server processes: started, found ready by what they say, and ended with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from _peers.places import PROJECT
from isthmus.runtime.errors import BackendError
from isthmus.runtime.grpc_engine import EXPERIMENTS

_PATIENCE_S = 60.0
_END_S = 10.0

Cores = frozenset[int]


def usable_cores() -> list[int]:
    """Return the cores that this process may run on, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def on_cores(cores: Cores | None) -> Iterator[None]:
    """Run the body's thread, and whatever it starts, on `cores`; None: wherever it ran before."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A server process and where it listens."""

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        cores: Cores | None = None,
        tuned: bool = False,
    ) -> None:
        """Start `command`; with `port` None it says `{"port": …}` on its first line.

        Args:
            name: For messages.
            command: Program and arguments.
            port: Where it listens.
            environment: Variables besides those of this process.
            folder: Its working directory.
            cores: Where it may run.
            tuned: It uses gRPC as our processes do; else as gRPC is by itself.

        Raises:
            BackendError: If it ends before it says its port.
        """
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        path = os.pathsep.join([str(PROJECT), str(Path(__file__).parents[1])])
        variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, **(environment or {})}
        inherited = {name: value for name, value in os.environ.items() if name != EXPERIMENTS or tuned}
        with on_cores(cores):
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env={**inherited, **variables},
                cwd=folder,
                stdout=subprocess.PIPE if port is None else self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self.port = self._said_port() if port is None else port

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def wait_until(self, ready: Callable[[], bool]) -> Child:
        """Wait until `ready()`, and return itself.

        Raises:
            BackendError: If it ends, or is not ready within a minute.
        """
        end_s = time.monotonic() + _PATIENCE_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise BackendError(f"{self.name} did not become ready: {self._last_words()}")
            time.sleep(0.1)
        return self

    def cpu_s(self) -> float:
        """Return the processor seconds that its threads, and those of its children, have used."""
        used_s = 0.0
        process = psutil.Process(self._process.pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used_s += _cpu_s(one)
        return used_s

    @property
    def exit_code(self) -> int | None:
        """How it ended; None: it still runs."""
        return self._process.poll()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let it and what it started stand still during the body: some servers poll while they idle."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Stop it, gently at first, and whatever it has started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _said_port(self) -> int:
        assert self._process.stdout is not None, "it was started with a pipe"
        line = self._process.stdout.readline()
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError):
            raise BackendError(f"{self.name} did not start: {self._last_words()}") from None

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def python(script: str, *arguments: object, executable: Path | None = None) -> list[object]:
    """Return the command that runs the module `script` of this folder."""
    return [executable or sys.executable, Path(__file__).with_name(f"{script}.py"), *arguments]


def _cpu_s(process: psutil.Process) -> float:
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.is_dir():
        times = process.cpu_times()
        return float(times.user + times.system)
    used_ns = 0
    for task in tasks.iterdir():
        # A thread may end meanwhile. The kernel counts nanoseconds here, elsewhere hundredths of a second.
        with contextlib.suppress(OSError, ValueError):
            used_ns += int((task / "schedstat").read_text().split()[0])
    return used_ns / 1e9
