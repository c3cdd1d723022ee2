"""What a scenario is played with: real servers, links and agents, all ended when it is over."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from _faults.bundles import Properties
from _faults.verdict import BEFORE_S, WINDOW_S, WITHIN_S
from isthmus.runtime.events import Event, FrameEvent, read_events

PATIENCE_S = 60.0
FPS = 20
DEADLINE_S = 0.25
# The first connection and the first beliefs are no part of what was there before a fault.
_WARM_S = 1.0
_ALTERED_AGENT = Path(__file__).with_name("altered_agent.py")
_CHECKOUT = Path(__file__).resolve().parents[2]
_POLL_S = 0.05

T = TypeVar("T")


class Child:
    """A process of ours.

    Attributes:
        process: The process.
        port: Where it listens, if it does.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Take a process whose standard error goes to `errors`."""
        self.process, self._errors, self.port = process, errors, 0

    def signal(self, number: int) -> float:
        """Send a signal and return when."""
        self.process.send_signal(number)
        return time.monotonic()

    def kill(self) -> float:
        """Kill it at once and return when it was gone."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        return time.monotonic()

    def complaint(self) -> str:
        """Return what it said on standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


class Agent:
    """An agent process, its log and what it said at its end."""

    def __init__(self, child: Child, log: Path) -> None:
        """Take the process and the file of its event log."""
        self.child, self.log = child, log

    def events(self) -> list[Event]:
        """Return what is logged so far."""
        return list(read_events(self.log)) if self.log.exists() else []

    def frames(self) -> list[FrameEvent]:
        """Return the frames that ended so far."""
        return [event for event in self.events() if isinstance(event, FrameEvent)]

    def wait(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` holds and return its value; the agent must stay alive."""
        end_s = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            if self.child.process.poll() is not None:
                raise AssertionError(f"the agent ended: {self.child.complaint()[-500:]}")
            if time.monotonic() > end_s:
                raise AssertionError(f"waited in vain for {what}")
            time.sleep(_POLL_S)
        return value

    def wait_remote(self, count: int = 1) -> list[FrameEvent]:
        """Wait until the server has answered so many frames, and return those."""

        def answered() -> list[FrameEvent]:
            remote = [event for event in self.frames() if event.outcome == "remote"]
            return remote if len(remote) >= count else []

        return self.wait(answered, "the server's answers")

    def settle(self) -> None:
        """Let the agent stream long enough for a mean before the fault."""
        first = self.wait_remote()[0]
        self.run_until(first.captured_s + _WARM_S + BEFORE_S + DEADLINE_S)

    def recover(self, return_s: float, *, within_s: float = WITHIN_S) -> None:
        """Let the agent stream until every frame that counts after the return has ended."""
        self.run_until(return_s + within_s + WINDOW_S + 2 * DEADLINE_S)

    def run_until(self, at_s: float) -> None:
        """Let time pass until `at_s`; the agent must stay alive."""
        while (rest_s := at_s - time.monotonic()) > 0:
            time.sleep(min(rest_s, 0.2))
            if self.child.process.poll() is not None:
                raise AssertionError(f"the agent ended: {self.child.complaint()[-500:]}")

    def finish(self, *numbers: int) -> dict[str, Any]:
        """Send the signals (none given: SIGTERM) and return what the agent says of its run; see below."""
        for number in numbers or (signal.SIGTERM,):
            self.child.signal(number)
            time.sleep(_POLL_S)
        return self.finish_by_itself()

    def finish_by_itself(self) -> dict[str, Any]:
        """Wait until the agent has ended and return what it says of its run.

        Raises:
            AssertionError: If it fails.
        """
        try:
            said, _ = self.child.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError("the agent did not end") from None
        if self.child.process.returncode != 0:
            raise AssertionError(f"the agent failed: {self.child.complaint()[-500:]}")
        summary: dict[str, Any] = json.loads(said)
        return summary


class Stage:
    """A context that starts processes in `folder` and ends them all, by their ids, when it is left."""

    def __init__(self, folder: Path, properties: Properties) -> None:
        """Keep logs in `folder`."""
        self.folder, self.properties = folder, properties
        self._stack = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self, thing: T) -> T:
        """Close `thing` when the stage is left."""
        self._stack.callback(thing.close)  # type: ignore[attr-defined]
        return thing

    def hold(self, manager: contextlib.AbstractContextManager[T]) -> T:
        """Enter `manager` until the stage is left."""
        return self._stack.enter_context(manager)

    def serve(self, bundle: Path | None = None, *, port: int = 0, host: str = "127.0.0.1") -> Child:
        """Start `isthmus serve` and return it once it is ready."""
        root = self.properties.bundle if bundle is None else bundle
        flags = ["--host", host, "--port", str(port), "--threads", "1", "--json"]
        if host != "127.0.0.1":
            flags.append("--insecure")
        return self._service(["serve", str(root), *flags])

    def link(self, target: Child | int, trace: str, *, delay: str = "10ms") -> tuple[Child, Path]:
        """Start `isthmus link` in front of `target`; return it and the log of its true rate."""
        port = target if isinstance(target, int) else target.port
        log = self._file("link.jsonl")
        shape = ["--trace", trace, "--delay", delay, "--events", str(log), "--json"]
        return self._service(["link", "--target", f"127.0.0.1:{port}", *shape]), log

    def agent(
        self,
        *servers: int | str,
        bundle: Path | None = None,
        alter: str | None = None,
        start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
        events: Path | None = None,
        **settings: Any,
    ) -> Agent:
        """Start `isthmus agent run`.

        Args:
            *servers: Ports on loopback, or HOST:PORT.
            bundle: The bundle; None: the usual one.
            alter: What `altered_agent` does to it; None: nothing.
            start: What starts the process.
            events: The event log; None: one in the stage's folder.
            **settings: Settings by name.
        """
        log = self._file("events.jsonl") if events is None else events
        addresses = [one if isinstance(one, str) else f"127.0.0.1:{one}" for one in servers]
        usual = {"source": self.properties.frames, "fps": FPS, "deadline": f"{DEADLINE_S}s"}
        usual |= {"servers": ",".join(addresses), "events": log, "thermal": "off"} | settings
        words = ["agent", "run", str(bundle or self.properties.bundle), "--json"]
        for name, value in usual.items():
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        program = ["-m", "isthmus"] if alter is None else [str(_ALTERED_AGENT), alter]
        return Agent(self.start([*program, *words], start=start), log)

    def start(
        self, words: list[str], *, start: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    ) -> Child:
        """Start Python with `words`."""
        errors = self._file("stderr.txt").open("w+b")
        path = os.pathsep.join(filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH", "")]))
        process = start(
            [sys.executable, *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        return self.keep(Child(process, errors))

    def _service(self, words: list[str]) -> Child:
        child = self.start(["-m", "isthmus", *words])
        line = _first_line(child.process.stdout)
        if not line:
            raise AssertionError(f"{words[0]} did not become ready: {child.complaint()[-500:]}")
        child.port = json.loads(line)["port"]
        return child

    def _file(self, name: str) -> Path:
        self._count += 1
        return self.folder / f"{self._count}-{name}"


def _first_line(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], PATIENCE_S)
    return stream.readline() if ready else b""
