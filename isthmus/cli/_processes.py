"""Start Isthmus itself as child processes, and end them for certain."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from isthmus.runtime.errors import NetworkError

# Loading and warming the tails of large bundles takes its time; one that ends instead is noticed at once.
_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_QUOTED_LINES = 5


class Children:
    """The processes of one run; all of them are ended when the block is left, whatever happened in it.

    SIGTERM leaves the block as Ctrl-C does: by itself it would end this process alone.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self._handles_signals = threading.current_thread() is threading.main_thread()
        self._before: Any = None
        self._terminated = False

    def __enter__(self) -> Children:
        if self._handles_signals:
            self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # The last one started depends on the first: stop in reverse.
        for process in reversed(self._running):
            stop(process)
        for log in self._logs:
            log.close()
        if self._handles_signals:
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

    def start_service(self, arguments: list[str], log: Path | None = None) -> dict[str, Any]:
        """Start a verb that prints one JSON line when it is ready, and return that line.

        Its standard error goes to the file `log`, or to one that lives as long as this block.

        Raises:
            NetworkError: If it ends or stays silent instead; the message quotes the last of what it said.
        """
        file = tempfile.TemporaryFile() if log is None else log.open("w+b")  # noqa: SIM115, closed on exit
        self._logs.append(file)
        process = subprocess.Popen(
            [sys.executable, "-m", "isthmus", *arguments], stdout=subprocess.PIPE, stderr=file
        )
        self._running.append(process)
        line = _first_line(process)
        if not line:
            file.seek(0)
            said = file.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
            # What nobody can read up afterwards is quoted at more length.
            last = " | ".join(said[-_QUOTED_LINES:]) if log is None else f"{said[-1]} (all of it: {log})"
            raise NetworkError(f"isthmus {arguments[0]} did not become ready: {last}")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def run(self, arguments: list[str], *, to_the_end: bool = False) -> int:
        """Run a verb until it ends, on this process's terminal, and return its exit code.

        Args:
            arguments: The verb and what it is told.
            to_the_end: Ctrl-C ends the verb and not what called this.
        """
        sys.stdout.flush()
        process = subprocess.Popen([sys.executable, "-m", "isthmus", *arguments], stdout=sys.stdout.fileno())
        self._running.append(process)
        try:
            return process.wait()
        except KeyboardInterrupt:
            if not to_the_end:
                raise
            # The terminal's Ctrl-C has reached it too: a second request could meet it where it has just
            # ended its work and handles signals no more.
            if not self._terminated:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_STOP_TIMEOUT_S)
            stop(process)
            return process.wait()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        signal.default_int_handler(number, frame)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask `process` to stop, and insist if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    descriptor, line = process.stdout.fileno(), b""
    give_up = time.monotonic() + _READY_TIMEOUT_S
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, give_up - time.monotonic()))
        chunk = os.read(descriptor, 4096) if ready else b""
        if not chunk:
            return b""
        line += chunk
    return line.split(b"\n")[0]
