"""The demo's run: server, link, agent and, if asked for, the dashboard, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.cli._common import console
from isthmus.cli._processes import Children
from isthmus.runtime.errors import IsthmusError

Show = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to run, as a user writes it.

    Attributes:
        trace, delay: Of the emulated link.
        deadline, fps: Of the agent.
        length: How long; None: until Ctrl-C.
        dashboard: Whether to show it live.
    """

    trace: str
    delay: str
    deadline: str
    fps: float
    length: str | None
    dashboard: bool


def run_agent(run: Run, root: Path, bundle: Path, source: Path, *, show: Show) -> None:
    """Start server and link (and dashboard), then run the agent on this terminal until it ends.

    Raises:
        NetworkError: If one of them does not become ready.
        IsthmusError: If the agent fails; it has said why.
    """
    serve = ["serve", str(bundle), "--port", "0", "--threads", "1", "--json"]
    serve += ["--metrics-port", "0"] if run.dashboard else []
    with contextlib.ExitStack() as stack:
        # The names of sockets must be short, whatever the demo's folder is called.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-demo-")))
        children = stack.enter_context(Children())
        show(serve)
        server = children.start_service(serve, root / "serve.log")
        link = ["link", "--listen", "127.0.0.1:0", "--target", f"127.0.0.1:{server['port']}"]
        link += ["--trace", run.trace, "--delay", run.delay, "--events", str(root / "link.jsonl"), "--json"]
        link += ["--control", str(sockets / "link")] if run.dashboard else []
        show(link)
        proxy = children.start_service(link, root / "link.log")
        agent = ["agent", str(bundle), "--server", f"127.0.0.1:{proxy['port']}", "--source", f"npz:{source}"]
        agent += ["--fps", f"{run.fps:g}", "--deadline", run.deadline]
        agent += [] if run.length is None else ["--duration", run.length]
        agent += ["--events", str(root / "events.jsonl")]
        if run.dashboard:
            agent += ["--name", "demo", "--control", str(sockets / "agent")]
            (root / "events.jsonl").unlink(missing_ok=True)  # of an earlier demo
            _show_live(children, root, sockets, server, show)
        show(agent)
        code = children.run(agent, to_the_end=run.length is None)
    if code != 0:
        raise _AgentFailedError(code)


def _show_live(children: Children, root: Path, sockets: Path, server: dict[str, Any], show: Show) -> None:
    token_file, token = sockets / "token", secrets.token_hex(24)
    token_file.touch(mode=0o600)
    token_file.write_text(token + "\n")
    logs = [str(root / name) for name in ("events.jsonl", "link.jsonl")]
    command = ["dashboard", *logs, "--metrics", f"127.0.0.1:{server['metrics_port']}", "--port", "0"]
    command += ["--control", str(sockets / "link"), "--control", str(sockets / "agent")]
    command += ["--token-file", str(token_file), "--json"]
    show(command)
    ready = children.start_service(command, root / "dashboard.log")
    # What stands behind '#' never leaves the browser.
    url = f"{ready['url']}#token={token}"
    console.print(f"\nopen {url}   (Ctrl-C ends the run)", style="bold", markup=False, soft_wrap=True)
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        import webbrowser

        webbrowser.open(url)


class _AgentFailedError(IsthmusError):
    """The agent has printed its own error; the demo ends with the agent's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"isthmus agent ended with exit code {code}; its messages are above")
        # What a shell reports of a process that a signal ended.
        self.exit_code = code if code >= 0 else 128 - code  # type: ignore[misc]
