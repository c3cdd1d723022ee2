"""Ctrl-C ends a demo wherever it is: with what is documented, without a traceback, and with every process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.runtime.events import EndEvent, read_events

# Real trainings and processes, on a machine that may be slow and busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_WAIT_S = 240.0
_QUICK = ("--quick", "--trace", "constant:20kB", "--out", "out")


class Terminal:
    """A demo in a process group of its own, as a terminal would start it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / "said.log"
        environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        with self._log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "isthmus", "demo", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, happened: object) -> None:
        """Wait until `happened()`, a demo that ends by itself is none."""
        assert callable(happened)
        give_up = time.monotonic() + _WAIT_S
        while not happened():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < give_up, self.said()
            time.sleep(0.05)

    def interrupt(self) -> int:
        """Press Ctrl-C, which reaches the whole group, and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(_WAIT_S)

    def anyone_left(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@contextlib.contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    demo = Terminal(folder, *arguments)
    try:
        yield demo
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGKILL)
        demo.process.wait()


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def test_the_run_on_the_dashboard_ends_with_a_report(tmp_path: Path) -> None:
    events = tmp_path / "out" / "events.jsonl"
    with terminal(tmp_path, *_QUICK, "--dashboard") as demo:
        demo.wait_for(lambda: lines_in(events) > 20)
        assert demo.interrupt() == 0, demo.said()
        assert not demo.anyone_left()
        said = demo.said()
    assert "(Ctrl-C ends the run)" in said
    assert "Traceback" not in said
    assert "captured frames ended exactly once" in (tmp_path / "out" / "report.html").read_text("utf-8")
    end = list(read_events(events))[-1]
    assert isinstance(end, EndEvent)
    assert sum(end.outcomes.values()) == end.captured > 10


def test_without_the_dashboard_the_run_is_interrupted(tmp_path: Path) -> None:
    events = tmp_path / "out" / "events.jsonl"
    with terminal(tmp_path, *_QUICK, "--duration", "5m") as demo:
        demo.wait_for(lambda: lines_in(events) > 20)
        assert demo.interrupt() == 130, demo.said()
        assert not demo.anyone_left()
        assert "Traceback" not in demo.said()
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("at", ["training the teacher", "$ isthmus train", "epoch 1/"])
def test_a_training_is_interrupted(at: str, tmp_path: Path) -> None:
    with terminal(tmp_path, *_QUICK[1:], "--dashboard") as demo:
        demo.wait_for(lambda: at in demo.said())
        assert demo.interrupt() == 130, demo.said()
        assert not demo.anyone_left()
        assert "Traceback" not in demo.said()
    assert not (tmp_path / "out" / "bundle").exists()
