"""`isthmus serve`: host the tails of bundles until told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli._common import JsonFlag, console

if TYPE_CHECKING:
    from isthmus.runtime.server import DrainReport, ReadyReport, ServerConfig


def command(
    bundles: Annotated[
        list[Path], typer.Argument(help="Bundle directories, each served under its own name.")
    ],
    host: Annotated[
        str,
        typer.Option(
            envvar="ISTHMUS_SERVE_HOST", help="Address to bind; others than loopback need --insecure."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="ISTHMUS_SERVE_PORT", help="Port to bind; 0 = any free one.")
    ] = 8001,
    threads: Annotated[
        int | None,
        typer.Option(
            envvar="ISTHMUS_SERVE_THREADS", help="Cores per tail, and decoder threads [default: all]."
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(help="Most latents in one run of a tail.")] = 32,
    queue: Annotated[
        int, typer.Option(help="Most latents of a bundle that wait; more are refused as busy.")
    ] = 256,
    grace: Annotated[
        str, typer.Option(help="How long accepted frames may take when the server stops.")
    ] = "5s",
    max_message_bytes: Annotated[int, typer.Option(help="Largest message taken or sent.")] = 4 << 20,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow plain text beyond loopback, on a network you trust.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve the tails of bundles over gRPC (Open Inference Protocol v2) until SIGTERM or Ctrl-C.

    Prints one line on standard output when frames are taken, and one when it has stopped. To stop, it first
    says NOT_SERVING, then answers every frame it has accepted; a second signal cuts that short.
    """
    from isthmus.runtime.server import ServerConfig
    from isthmus.runtime.server.config import usable_cores
    from isthmus.runtime.units import parse_duration_s

    config = ServerConfig(
        bundles=tuple(bundles),
        host=host,
        port=port,
        threads=usable_cores() if threads is None else threads,
        max_batch=max_batch,
        queue_frames=queue,
        grace_s=parse_duration_s(grace),
        max_message_bytes=max_message_bytes,
        insecure=insecure,
    )
    _log_to_stderr()
    report = asyncio.run(_serve(config, as_json=as_json))
    _print(_stopped(report, as_json=as_json))


async def _serve(config: ServerConfig, *, as_json: bool) -> DrainReport:
    from isthmus.runtime.server import TailServer, run_until

    stops: asyncio.Queue[int] = asyncio.Queue()

    def on_ready(report: ReadyReport) -> None:
        # Until here a signal ends the process at once: nothing has been accepted.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stops.put_nowait, number)
        _print(_ready(report, config.host, as_json=as_json))

    return await run_until(stops, TailServer(config), on_ready)


def _ready(report: ReadyReport, host: str, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "event": "ready",
                "port": report.port,
                "models": list(report.models),
                "provider": report.providers[0],
                "providers": dict(zip(report.models, report.providers, strict=True)),
            }
        )
    models = ", ".join(
        f"{name} ({provider})" for name, provider in zip(report.models, report.providers, strict=True)
    )
    return f"ready on {host}:{report.port}: {models}"


def _stopped(report: DrainReport, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "event": "stopped",
                "outcomes": report.outcomes,
                "complete": report.complete,
                "drain_s": round(report.drain_s, 3),
            }
        )
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in report.outcomes.items()) or "none"
    rest = "" if report.complete else "; the grace ended before every call had"
    return f"stopped after {report.drain_s:.2f} s; frames: {outcomes}{rest}"


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started us is gone; serving and stopping go on without it
        sys.stdout = sys.stderr


def _log_to_stderr() -> None:
    import logging

    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, markup=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
